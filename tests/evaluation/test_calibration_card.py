"""A card describes a calibration: the budgets, and the certificate in words."""

import dataclasses

from adapler_jax.evaluation.calibration_card import card_section
from adapler_jax.evaluation.certificate import Certificate
from adapler_jax.inference.calibration import Calibration

ROWS = (
    {"budget": 0.4, "kept_share": 0.412, "flops_speedup": 2.3, "agreement": 0.957},
    {"budget": 1.0, "kept_share": 1.0, "flops_speedup": 0.99, "agreement": 1.0},
)


def make_calibration(rows=ROWS, certificate=None):
    return Calibration((0.4, 1.0), ((1.0, 0.0),), rows, 300, 1200, certificate=certificate)


def test_the_table_has_a_row_for_each_budget():
    lines = card_section(make_calibration()).splitlines()
    assert lines[0] == "## Budgets"
    assert any("1,200" in line for line in lines)
    assert lines[-4:] == [
        "| budget | tokens kept | FLOPs speedup | agreement with the full model |",
        "|---|---|---|---|",
        "| 0.4 | 41.2% | 2.30x | 95.7% |",
        "| 1 | 100.0% | 0.99x | 100.0% |",
    ]


def test_labelled_texts_add_a_column():
    rows = tuple(row | {"score": score} for row, score in zip(ROWS, (0.8, 0.85)))
    lines = card_section(make_calibration(rows)).splitlines()
    assert lines[-4].endswith(" | accuracy |") and lines[-3] == "|---|---|---|---|---|"
    assert lines[-2:] == [
        "| 0.4 | 41.2% | 2.30x | 95.7% | 80.0% |",
        "| 1 | 100.0% | 0.99x | 100.0% | 85.0% |",
    ]


def test_a_certificate_is_said_in_words_with_its_limits():
    found = Certificate(
        0.4,
        0.02,
        0.95,
        2000,
        21,
        margin=0.1,
        escalated_share=0.07,
        flops_speedup=2.14,
    )
    text = card_section(make_calibration(certificate=found._asdict() | {"threshold": None}))
    assert (
        "on texts like these, at most 2.0% of answers differ from the full model's (95% "
        "confidence, n = 2,000, 21 differed)"
    ) in text
    assert "budget 0.4, 2.14x; 7.0% of the texts run again with all tokens." in text
    assert "texts of other topics" in text


def test_a_bound_on_the_drop_is_worded_by_what_it_bounds():
    found = Certificate(0.4, 0.01, 0.9, 500, 1, flops_speedup=2.0, needs_labels=True)
    assert found.sentence() == (
        "on texts like these, at most 1.0% of answers are wrong where the full model is right "
        "(90% confidence, n = 500, 1 became wrong)"
    )
    assert found.speed() == "budget 0.4, 2.00x"


def test_a_reranker_has_the_agreement_of_orders_and_a_promise_about_queries():
    rows = tuple(
        {"budget": budget, "kept_share": budget, "flops_speedup": speedup, "kendall_tau": tau}
        | {"top10_overlap": 0.95, "alike_queries": 0.9}
        for budget, speedup, tau in ((0.4, 2.3, 0.8767), (1.0, 1.0, 1.0))
    )
    found = Certificate(0.4, 0.05, 0.95, 400, 9, flops_speedup=2.3, min_shared=9, num_left_out=20)
    calibration = dataclasses.replace(
        make_calibration(rows, found._asdict() | {"threshold": None}),
        queries={"num_queries": 420, "num_evidence": 400, "min_shared": 9},
    )
    text = card_section(calibration)
    assert "`model.rank(query, documents, budget=0.4)` keeps about that share" in text
    assert "Measured on 420 queries with 1,200 documents that did" in text
    columns = "Kendall's tau | same top 10 | queries that share 9 of 10 |"
    assert (
        f"| budget | tokens kept | FLOPs speedup | {columns}\n|---|---|---|---|---|---|\n" in text
    )
    assert "| 0.4 | 40.0% | 2.30x | 87.7% | 95.0% | 90.0% |" in text
    assert (
        "`model.rank(query, documents, certified=True)` has a bound: on queries like these, the "
        "first 10 documents share at least 9 with the full model's for at least 95% of queries "
        "(95% confidence, n = 400 queries, 9 differed)"
    ) in text
    assert "budget 0.4, 2.30x. 20 queries of fewer than 12 documents are not counted" in text
    assert "Queries like these are different queries, drawn as" in text


def test_a_certificate_of_an_earlier_release_is_read():
    old = Certificate(0.4, 0.02, 0.95, 2000, 21, flops_speedup=2.0)._asdict()
    for name in ("min_shared", "num_left_out"):
        del old[name]
    assert "at most 2.0% of answers differ" in card_section(make_calibration(certificate=old))
