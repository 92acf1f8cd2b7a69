"""Fixtures of other rooms that tests of documents use."""

from tests.training.conftest import make_config, shared_directory, tiny_files  # noqa: F401
