"""Share the miniature run of the training tests and the saved model of the inference tests."""

from tests.inference.conftest import tiny_classifier  # noqa: F401
from tests.training.conftest import make_config, tiny_files, workdirs  # noqa: F401
