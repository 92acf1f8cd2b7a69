from tests.inference.conftest import tiny_classifier  # noqa: F401
