"""Shared by all tests: where the reference numbers lie, and a compiler that spends less time on tiny programs."""

import os
import pathlib
import tempfile

# Before jax is imported: most of a test's time is compilation, and none of it is speed that counts.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="adapler-cache-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="adapler-tests-"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

GOLDEN = pathlib.Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption("--golden-dir", default=None, help="run the parity tests over every adapler_*.npz of this folder")


def pytest_generate_tests(metafunc):
    if "golden_path" in metafunc.fixturenames:
        directory = pathlib.Path(metafunc.config.getoption("--golden-dir") or GOLDEN)
        paths = sorted(directory.glob("adapler_*.npz"))
        if not paths:
            raise FileNotFoundError(f"no adapler_*.npz in {directory}")
        metafunc.parametrize("golden_path", paths, ids=[path.stem for path in paths], scope="module")
