"""The miniature run of the training tests and the small calibrated model serve here too."""

from tests.inference.conftest import _calibrated, tiny_classifier  # noqa: F401
from tests.training.conftest import (  # noqa: F401
    copied_run,
    make_config,
    shared_directory,
    tiny_files,
    workdirs,
)
