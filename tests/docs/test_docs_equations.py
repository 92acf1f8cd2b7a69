"""docs/equations.md names functions that exist."""

import importlib

import pytest

from tests.docs.commands import ROOT, SPAN

PAGE = (ROOT / "docs" / "equations.md").read_text()
NAMES = sorted({span for span in SPAN.findall(PAGE) if "." in span})


def test_the_page_has_functions_of_every_method():
    for module in ("pruning.adapler", "pruning.trbert", "pruning.powerbert"):
        assert any(name.startswith(module) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_function_of_the_page_exists(name):
    module, _, function = name.rpartition(".")
    assert callable(getattr(importlib.import_module(f"adapler_jax.{module}"), function))
