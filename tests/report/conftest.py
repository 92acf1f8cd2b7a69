"""Share the miniature run of the training tests and the saved model of the inference tests."""

from tests.inference.conftest import tiny_classifier  # noqa: F401
from tests.training.conftest import (  # noqa: F401
    copied_run,
    make_config,
    shared_directory,
    tiny_files,
    workdirs,
)
