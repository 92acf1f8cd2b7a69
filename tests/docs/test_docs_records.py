"""The tables of README.md and docs/choose-a-speed.md quote the records that they link to."""

import json
import re

import pytest

from adapler_jax import flops, model_flops
from adapler_jax.types import EncoderConfig
from tests.docs.commands import ROOT

README = (ROOT / "README.md").read_text()
SPEEDS = (ROOT / "docs" / "choose-a-speed.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"


def read_rows(name):
    """Return the summary of a record over its seeds, or its rows."""
    record = json.loads((RESULTS / f"{name}.json").read_text())
    return record.get("summary") or record["rows"]


def table(page, header):
    """Return the cells of the rows of the table with this header."""
    found = re.search(rf"^\| {header}.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def number(cell):
    """Return the first number of a cell."""
    return float(re.search(r"-?\d+\.?\d*", cell)[0])


def is_pruned(row):
    """Return True for AdapLeR's models."""
    return row["method"] == "adapler" or row["method"].startswith("adapt-")


def find(rows, speedup):
    """Return AdapLeR's row with this FLOPs speedup."""
    (row,) = [row for row in rows if is_pruned(row) and round(row["flops_speedup"], 2) == speedup]
    return row


def dense_score(rows):
    """Return the score of plain BERT."""
    scores = {row["test_score"] for row in rows if row["method"] == "dense"}
    (score,) = scores or {row["dense_score"] for row in rows if is_pruned(row)}
    return score


MEASURED = [row for row in table(README, "data, with its record") if "peers" not in row[0]]


@pytest.mark.parametrize("cells", MEASURED, ids=lambda cells: f"{cells[0][:24]} {cells[5]}")
def test_a_row_of_the_readme_quotes_its_record(cells):
    rows = read_rows(re.search(r"results/(.*)\.json", cells[0])[1])
    row = find(rows, number(cells[5]))
    assert number(cells[3]) == round(100 * dense_score(rows), 1)
    assert number(cells[4]) == round(100 * row["test_score"], 1)
    assert number(cells[6]) == round(row["wall_speedup_32"], 2)
    if "±" in cells[4]:
        assert number(cells[4].split("±")[1]) == round(100 * row["test_score_sd"], 1)


def test_the_comparison_with_installed_systems_quotes_its_record():
    (cells,) = [row for row in table(README, "data, with its record") if "peers" in row[0]]
    rows = [
        row
        for row in json.loads((RESULTS / "peers-imdb.json").read_text())["rows"]
        if row["batch"] == 32 and row["dtype"] == "float32"
    ]
    padded, *packed = [row for row in rows if row["engine"] in ("padded", "packed")]
    pruned = packed[-1]
    assert number(cells[3]) == round(100 * padded["test_score"], 1)
    assert number(cells[4]) == round(100 * pruned["test_score"], 1)
    assert number(cells[6]) == round(pruned["sentences_per_s"] / padded["sentences_per_s"], 1)


NAMES = {
    "Rotten Tomatoes, a part": "quickstart",
    "Rotten Tomatoes, 3 seeds": "methods-rotten_tomatoes",
    "R8 news, 1 seed": "methods-r8",
    "IMDB reviews, 1 seed": "accuracy-imdb_package",
}
LOSSES = table(SPEEDS, "data ")


@pytest.mark.parametrize("cells", LOSSES, ids=lambda cells: f"{cells[0][:24]} {cells[3]}")
def test_a_loss_of_the_page_of_speeds_is_of_the_record(cells):
    rows = read_rows(NAMES[cells[0]])
    if NAMES[cells[0]] == "accuracy-imdb_package":
        rows = json.loads((RESULTS / "accuracy-imdb_package.json").read_text())["rows"]
    row = find(rows, number(cells[4]))
    assert number(cells[5]) == round(100 * (row["test_score"] - dense_score(rows)), 1)


METHODS = (ROOT / "docs" / "methods.md").read_text()
FEW_TASKS = {"Rotten Tomatoes": "rotten_tomatoes", "MRPC": "mrpc", "R8": "r8"}
# Of methods that were measured later.
FEW_RECORDS = {
    ("attention received", "mrpc"): "attention-values-mrpc",
    ("attention received", "rotten_tomatoes"): "attention-values-rotten_tomatoes",
    ("cut to the first tokens", "rotten_tomatoes"): "cut-rotten_tomatoes",
}
# The record's rows of attention received are with values.
OTHER_SCORE = {("attention received, without values", "r8")}
FEW_TEXTS = {
    "dense": "dense",
    "attention received": "attention",
    "attention received, without values": "attention",
    "vocabulary saliency": "vocabulary",
    "PoWER-BERT": "powerbert",
    "TR-BERT": "trbert",
    "AdapLeR": "adapler",
    "student of 3 layers": "student",
    "random tokens": "random",
    "cut to the first tokens": "cut",
    "without stop words": "stop words",
}


@pytest.mark.parametrize(
    "cells", table(METHODS, "method, 2,000 texts"), ids=lambda cells: f"{cells[0]} {cells[1]}"
)
def test_a_row_of_few_texts_quotes_its_record(cells):
    name, target, *columns = cells
    measured = columns[len(FEW_TASKS) :]
    for task, cell in zip(FEW_TASKS.values(), columns):
        found = [
            row
            for row in read_rows(FEW_RECORDS.get((name, task), f"methods-2000-{task}"))
            if row["method"] == FEW_TEXTS[name] and row["split"] == "test"
        ]
        if target.endswith("x"):
            found = [row for row in found if row["dial"] == number(target)]
        if not cell:
            assert not found or (name, task) in OTHER_SCORE
            continue
        (row,) = found
        assert row["num_seeds"] == 3
        numbers = [float(part) for part in re.findall(r"[+-]?\d+\.\d+", cell)]
        if name == "dense":
            expected = [100 * row["test_score"], 100 * row["test_score_sd"]]
        else:
            expected = [100 * row["difference"], 100 * row["difference_se"], row["flops_speedup"]]
        assert [f"{value:.1f}" for value in expected[:2]] == [
            f"{value:.1f}" for value in numbers[:2]
        ]
        assert numbers[2:] == [round(value, 2) for value in expected[2:]]
        if task == "rotten_tomatoes" and any(measured):
            names = ("wall_speedup_1", "wall_speedup_32", "training_s")
            assert [number(cell) for cell in measured] == [
                round(row[name], 0 if name == "training_s" else 2) for name in names
            ]


def test_the_saving_of_the_last_layer_is_what_the_counts_give():
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    quoted = re.search(
        r"at 28 tokens that takes (1\.\d+)x the operations for MiniLM-L6, and (1\.\d+)x for "
        r"BERT-base",
        page,
    )
    sizes = {
        "MiniLM-L6": {"num_layers": 6, "hidden_dim": 384, "ffn_dim": 1536},
        "BERT-base": {"num_layers": 12, "hidden_dim": 768, "ffn_dim": 3072},
    }
    for value, fields in zip(quoted.groups(), sizes.values(), strict=True):
        config = EncoderConfig(num_heads=12, vocab_size=30522, num_positions=512, **fields)
        head = flops.pooled_flops(config, 2)
        full, first = (
            model_flops.dense_flops(config, 28, head=head, reads_first=reads_first)
            for reads_first in (False, True)
        )
        assert float(value) == pytest.approx(full / first, abs=0.006)


def test_the_published_speedups_are_those_of_the_record():
    page, rows = (ROOT / "docs" / "published-speedups.md").read_text(), read_rows("published")
    power, top = (
        {row["task"]: row for row in rows if row["paper"] == paper}
        for paper in ("PoWER-BERT", "ToP")
    )
    cells = table(page, r"task \| padded to")
    assert [task for task, *_ in cells] == list(top) == list(power)
    for task, padded, average, *quoted in cells:
        found = top[task]
        assert (int(padded), float(average)) == (found["max_length"], found["average_length"])
        names = ("published", "from_dropping", "together")
        expected = [found["from_padding"], power[task]["published"], *map(found.get, names)]
        assert list(map(number, quoted)) == pytest.approx(expected, abs=0.006)
    assert (sum(row["from_dropping"] < 1.0 for row in power.values()), len(power)) == (5, 7)
    assert "On five of seven tasks, dense BERT without padding saves more" in page
    assert all(abs(row["together"] / row["published"] - 1.0) < 0.09 for row in top.values())


def test_modernberts_speeds_are_those_of_the_records():
    page = (ROOT / "docs" / "measurements.md").read_text()
    peers, drivers = read_rows("peers-modernbert-8x512"), read_rows("modernbert-engines")
    for _, dtype, *quoted in table(page, "texts of a batch, tokens"):
        speed = {
            (row["package"], row["method"]): row["sentences_per_s"]
            for row in peers
            if row["dtype"] == dtype and row["engine"] in ("packed", "")
        }
        torch, dense, pruned = (
            speed["torch", "dense"],
            speed["adapler_jax", "dense"],
            speed["adapler_jax", "adapler-3.3x"],
        )
        (row,) = [row for row in drivers if (row["dtype"], row["engine"]) == (dtype, "packed")]
        expected = [torch, dense, dense / torch, pruned, pruned / torch, row["efficiency"]]
        assert list(map(number, quoted[:-1])) == [round(value, 2) for value in expected]
        assert number(quoted[-1]) == round(row["compile_s"])
