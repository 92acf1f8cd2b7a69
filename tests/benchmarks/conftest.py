"""The miniature run of the training tests serves here too."""

from tests.training.conftest import (  # noqa: F401
    copied_run,
    make_config,
    shared_directory,
    tiny_files,
    workdirs,
)
