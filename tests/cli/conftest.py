"""Fixtures of the training and inference tests that serve here too."""

from tests.inference.conftest import tiny_classifier  # noqa: F401
from tests.training.conftest import (  # noqa: F401
    copied_run,
    make_config,
    shared_directory,
    tiny_files,
    workdirs,
)
