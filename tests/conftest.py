"""Settings of the whole suite: a fast compiler, strict promotion, own caches; golden files."""

import atexit
import gc
import importlib.metadata
import os
import pathlib
import shutil
import tempfile

import pytest

# These settings come before jax is imported. Most of a test's time is compilation, and no test
# measures speed. The older code generator takes half the time; versions without it reject its name.
FLAGS = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
# Strict settings hold in the commands that tests start too; steps of optax have standard promotion.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
# The collector visits all traced programs each time.
gc.set_threshold(100_000, 50, 50)
CACHES = tempfile.mkdtemp(prefix="adapler-tests-")
atexit.register(shutil.rmtree, CACHES, ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = f"{CACHES}/user"
os.environ["XDG_DATA_HOME"] = f"{CACHES}/data"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{CACHES}/compiled")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

GOLDEN = pathlib.Path(__file__).parent / "golden"
# Linux allows a process 65,530 memory maps. Each compiled program takes some, and the compiler
# crashes where there are no more.
MAPS, MAX_MAPS = pathlib.Path("/proc/self/maps"), 25_000


@pytest.fixture(autouse=True, scope="module")
def _drop_programs():
    """Drop the compiled programs of earlier files where a process has many."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MAX_MAPS:
        import jax  # only after the settings above

        jax.clear_caches()


def pytest_addoption(parser):
    parser.addoption(
        "--golden-dir",
        default=None,
        help="run the parity tests over the reference files of this folder",
    )


@pytest.fixture(scope="session")
def golden_file(pytestconfig):
    """A function: the path of a reference file by its name."""
    return lambda name: pathlib.Path(pytestconfig.getoption("--golden-dir") or GOLDEN) / name


def pytest_generate_tests(metafunc):
    if "golden_path" in metafunc.fixturenames:
        directory = pathlib.Path(metafunc.config.getoption("--golden-dir") or GOLDEN)
        paths = sorted(directory.glob("adapler_*.npz"))
        if not paths:
            raise FileNotFoundError(f"no adapler_*.npz in {directory}")
        metafunc.parametrize(
            "golden_path", paths, ids=[path.stem for path in paths], scope="module"
        )
