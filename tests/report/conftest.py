"""Share the miniature run of the training tests and the saved model of the inference tests."""

import shutil

import pytest

from adapler_jax.training.run import run_all
from tests.inference.conftest import tiny_classifier  # noqa: F401
from tests.report.pages import TRAINED_BY
from tests.training.conftest import (  # noqa: F401
    copied_run,
    make_config,
    shared_directory,
    tiny_files,
    workdirs,
)
from tests.training.runs import make_once, silent


@pytest.fixture(scope="session")
def trained(make_config, shared_directory):  # noqa: F811
    """A finished run of AdapLeR that all test processes share."""
    config = make_config(adapt__target_speedups=(1.2,), data__cache_dir="none")
    return make_once(
        shared_directory / "reported",
        lambda workdir: run_all(config, workdir, log=silent, command=TRAINED_BY),
    )


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a finished run, without records of an evaluation."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"
