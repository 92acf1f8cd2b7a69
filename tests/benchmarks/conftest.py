"""The miniature run of the training tests serves here too."""

from tests.training.conftest import make_config, tiny_files, workdirs  # noqa: F401
