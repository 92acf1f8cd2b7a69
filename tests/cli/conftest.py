"""Fixtures of the training and inference tests that serve here too."""

from tests.inference.conftest import tiny_classifier  # noqa: F401
from tests.training.conftest import make_config, tiny_files, workdirs  # noqa: F401
