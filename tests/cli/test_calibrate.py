"""The table of budgets that `calibrate` and `compress` print."""

import pytest

from adapler_jax.cli.calibrate import print_budgets
from adapler_jax.inference.calibration import Calibration

ROWS = (
    {"budget": 0.4, "kept_share": 0.412, "flops_speedup": 2.3, "agreement": 0.957},
    {"budget": 1.0, "kept_share": 1.0, "flops_speedup": 0.99, "agreement": 1.0},
)
MORE = {"score": (0.8, 0.85), "milliseconds": (4.25, 12.5)}


def make_calibration(names=(), timing=None):
    rows = tuple(
        row | {name: MORE[name][place] for name in names} for place, row in enumerate(ROWS)
    )
    return Calibration((0.4, 1.0), ((1.0, 0.0),), rows, 300, 1200, timing=timing)


def lines_of(capsys, *arguments):
    print_budgets(make_calibration(*arguments))
    return capsys.readouterr().out.splitlines()


def test_each_budget_has_a_line(capsys):
    assert lines_of(capsys) == [
        "budget  tokens kept  FLOPs speedup  agreement with the full model",
        "  0.40        41.2%          2.30x                          95.7%",
        "  1.00       100.0%          0.99x                         100.0%",
    ]


def test_labels_add_the_accuracy(capsys):
    assert [line[65:] for line in lines_of(capsys, ("score",))] == [
        "  accuracy",
        "     80.0%",
        "     85.0%",
    ]


@pytest.mark.parametrize("batch_size", [1, 32])
def test_timings_add_the_milliseconds_of_a_call(capsys, batch_size):
    timing = {"batch_size": batch_size, "device": "cpu"}
    title, first, second = lines_of(capsys, ("milliseconds",), timing)
    assert title.endswith(f"full model  ms @{batch_size}")
    assert (first[65:].split(), second[65:].split()) == (["4.25"], ["12.50"])
    assert len(title) == len(first) == len(second)


def test_all_columns_end_in_line(capsys):
    timing = {"batch_size": 8, "device": "cpu"}
    lines = lines_of(capsys, ("score", "milliseconds"), timing)
    assert len({len(line) for line in lines}) == 1


RANKED = (
    {"kendall_tau": 0.8767, "top10_overlap": 0.91, "alike_queries": 0.725},
    {"kendall_tau": 1.0, "top10_overlap": 1.0, "alike_queries": 1.0},
)


@pytest.mark.parametrize(
    ("names", "title", "cells"),
    [
        (
            tuple(RANKED[0]),
            "Kendall's tau  same top 10  queries that share 8 of 10",
            ["        87.7%        91.0%                       72.5%", "100.0%"],
        ),
        (("kendall_tau",), "Kendall's tau", ["        87.7%", "       100.0%"]),
    ],
)
def test_the_budgets_of_a_reranker_have_the_agreement_of_orders(capsys, names, title, cells):
    """Queries of ten documents or fewer have no top ten to compare."""
    rows = tuple(
        {name: value for name, value in row.items() if name != "agreement"}
        | {name: ranked[name] for name in names}
        for row, ranked in zip(ROWS, RANKED)
    )
    queries = {"num_queries": 80, "num_evidence": 70, "min_shared": 8}
    print_budgets(Calibration((0.4, 1.0), ((1.0, 0.0),), rows, 300, 1200, queries=queries))
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == f"budget  tokens kept  FLOPs speedup  {title}"
    assert first == f"  0.40        41.2%          2.30x  {cells[0]}"
    assert second.startswith("  1.00       100.0%          0.99x") and second.endswith(cells[1])
