"""Shared by all tests: where the reference numbers lie."""

import pathlib

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
