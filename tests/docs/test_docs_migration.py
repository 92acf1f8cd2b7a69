"""The tables of docs/migration.md name fields that exist, and the real changes of `paper`."""

import ast
import inspect
import re

import pytest

from adapler_jax.presets import old_names
from adapler_jax.pruning.powerbert import powerbert as powerbert_pruner
from adapler_jax.pruning.trbert import trbert as trbert_pruner
from adapler_jax.training.workdir import flatten
from configs import adapler, powerbert, trbert
from tests.docs.commands import ROOT, SPAN

PAGE = (ROOT / "docs" / "migration.md").read_text()
METHODS = {"AdapLeR": adapler, "TR-BERT": trbert, "PoWER-BERT": powerbert}


def section(method):
    """Return the part of the page below the heading of the method."""
    return re.search(rf"^## {method}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def tables(method):
    """Return {(first cell of the header, number of columns): rows} of the part of the method."""
    found = {}
    for lines in re.findall(r"(?:^\|.*\n)+", section(method), re.MULTILINE):
        header, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()
        ]
        found[(header[0], len(header))] = rows
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_field_in_our_column_is_one_of_the_methods_config(method):
    fields = flatten(METHODS[method].get_config("sst2").to_dict())
    spans = [span for row in tables(method)[("there", 3)] for span in SPAN.findall(row[1])]
    assert len(spans) > 10
    for span in spans:
        name, _, value = span.partition("=")
        assert name in fields, span
        config = METHODS[method].get_config("sst2")
        if value:
            kind = type(fields[name])
            config.update_from_flattened_dict(
                {name: value if kind is str else ast.literal_eval(value)}
            )


@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_paper_is_the_difference_of_the_configs(method):
    ours, authors = (
        flatten(METHODS[method].get_config(name).to_dict()) for name in ("sst2", "sst2,paper")
    )
    expected = {name: (ours[name], authors[name]) for name in ours if ours[name] != authors[name]}
    rows = tables(method)[("field", 4)]
    found = {
        row[0].strip("`"): tuple(ast.literal_eval(cell.strip("`")) for cell in row[1:3])
        for row in rows
    }
    assert found == expected


def test_pruners_have_the_options_that_the_page_names():
    for pruner, option in ((trbert_pruner, "by_batch"), (powerbert_pruner, "counts_padding")):
        assert re.search(rf"\w+\(config, {option}=True\)", PAGE)
        assert option in inspect.signature(pruner).parameters


def test_the_table_of_renamed_fields_is_the_table_of_old_names():
    renamed = dict(re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", PAGE, re.MULTILINE))
    fields = {old: new for old, new in old_names.FIELDS.items() if not old.endswith(".")}
    assert {old: renamed[old] for old in fields} == fields
