"""Panels take the page's colours, and their axes and curves stay readable."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from adapler_jax.report import plots
from tests.report.pages import Elements


def test_panels_take_the_page_s_colours_and_escape_names():
    name = "<b>a & $b$</b>"
    svg = plots.panel(
        "x", lambda axis: plots.draw_layers(axis, {name: [(1, 0.5), (2, 0.1)]}, label="y")
    )
    found = Elements(svg)
    assert found.open == [] and name in "".join(found.texts)
    assert "var(--series-1)" in svg and "currentColor" in svg and "var(--grid)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg) and "<style" not in svg


def drawn(draw, *data, **options):
    axis = Figure().add_subplot()
    draw(axis, *data, **options)
    return axis


def test_axes_of_nearly_equal_numbers_have_few_decimals():
    axis = drawn(plots.draw_training, [(1, 0.99314), (2, 0.99316)], [], label="y")
    low, high = axis.get_ylim()
    assert (
        low < 0.98
        and high > 1.0
        and all(round(tick, 2) == pytest.approx(tick) for tick in axis.get_yticks())
    )
    assert drawn(
        plots.draw_training, [(1, 0.2), (2, 0.6)], [], label="y"
    ).get_ylim() == pytest.approx((0.18, 0.62))


def test_lengths_are_counted_in_whole_texts_and_bars_of_as_many_lengths():
    axis = drawn(plots.draw_lengths, np.array([5, 5, 7]))
    assert [patch.get_height() for patch in axis.patches] == [2, 0, 1]
    assert all(tick == int(tick) for tick in axis.get_yticks())
    bars = drawn(plots.draw_lengths, np.arange(1, 101)).patches
    assert {patch.get_height() for patch in bars[:-1]} == {3} and sum(
        patch.get_height() for patch in bars
    ) == 100


def test_long_curves_are_thinned():
    steps, values = plots.mean_bins(range(10_000), [1.0] * 10_000)
    assert len(steps) == plots.MAX_POINTS and set(values) == {1.0}
    assert plots.mean_bins([1, 2], [3.0, 4.0])[1].tolist() == [3.0, 4.0]
