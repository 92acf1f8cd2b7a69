"""docs/api.md names objects that exist."""

import importlib
import re

import pytest

from tests.docs.commands import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()
NAMES = re.findall(r"^\.\. auto\w+:: adapler_jax\.([\w.]+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_object_of_the_page_exists(name):
    module, _, member = name.rpartition(".")
    assert hasattr(importlib.import_module(f"adapler_jax.{module}"), member)
