"""Draw the pictures of the report: small SVG panels in the page's own colours, light and dark."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator

SIZE = (4.4, 3.0)  # inches: one panel, so that it is still read on a phone
MAX_POINTS = 200  # of a training curve
MAX_BARS = 40
# The least range of an axis, as a fraction of its numbers: below it ticks would have many decimals.
LEAST_OF_TRAINING, LEAST_OF_SCORES = 0.05, 0.01
# Stand-ins that are replaced by the page's variables.
INK, GRID = "#000101", "#000102"
SERIES = tuple(f"#00020{index}" for index in range(1, 7))
MARKERS = "osD^vP"
_VARIABLES = {INK: "currentColor", GRID: "var(--grid)"} | {
    color: f"var(--series-{index})" for index, color in enumerate(SERIES, start=1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.prop_cycle": cycler(color=SERIES, marker=list(MARKERS)),
    "lines.markersize": 4,
    "lines.linewidth": 1.5,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def panel(name: str, draw: Callable[[Axes], None]) -> Markup:
    """Return one panel as an SVG element; its unique name keeps ids of panels apart."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    return inline(buffer.getvalue())


def inline(svg: str) -> Markup:
    """Return a file of matplotlib as an element in the page's colours.

    The prologue, and styles and ids that other panels have too, are removed.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub("<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    return Markup(re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0]], svg))


def mean_bins(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return at most MAX_POINTS points of a curve: means over neighbours."""
    num_bins = min(MAX_POINTS, len(steps))
    halves = [np.array_split(np.asarray(series, float), num_bins) for series in (steps, values)]
    step_X, value_X = (np.array([part.mean() for part in parts]) for parts in halves)
    return step_X, value_X


def widen(axis: Axes, least: float) -> None:
    """Give a y axis of nearly equal numbers a range of at least this fraction of them."""
    low, high = axis.get_ylim()
    missing = least * max(abs(low), abs(high)) - (high - low)
    if missing > 0:
        axis.set_ylim(low - missing / 2, high + missing / 2)


def draw_training(axis: Axes, train, validation, *, label: str, factor: float = 1.0) -> None:
    """Draw a number over the steps.

    Args:
      train: [(step, value)], drawn as a line.
      validation: [(step, value)], drawn as points.
    """
    for points, line, marker, name in (
        (train, "-", "", "training"),
        (validation, "--", None, "validation"),
    ):
        if points:
            steps, values = mean_bins(*zip(*points))
            axis.plot(steps, factor * values, label=name, linestyle=line, marker=marker)
        else:
            axis.plot([], [])  # the colours stay with their meaning
    axis.set(xlabel="step", ylabel=label)
    widen(axis, LEAST_OF_TRAINING)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if train and validation:
        axis.legend()


def draw_layers(axis: Axes, lines: dict[str, Sequence[tuple[int, float]]], *, label: str) -> None:
    """Draw a number over the layers, counted from 1.

    Args:
      lines: {name: [(layer, value)]}.
    """
    for name, points in lines.items():
        axis.plot(*zip(*points), label=name)
    axis.set(xlabel="layer", ylabel=label)
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()


def draw_lengths(axis: Axes, lengths: np.ndarray) -> None:
    """Draw how many texts have how many tokens."""
    width = 1 + int(np.ptp(lengths)) // MAX_BARS  # of a bar: as many lengths in each
    edges = np.arange(np.min(lengths), np.max(lengths) + width + 1, width) - 0.5
    axis.hist(lengths, bins=edges.tolist(), color=SERIES[0])
    axis.set(xlabel="tokens", ylabel="texts")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="x", visible=False)


def draw_speed(axis: Axes, points: dict[str, Sequence[tuple[float, float, str]]]) -> None:
    """Draw speedup in operations against speedup in seconds.

    On the diagonal all saved operations became seconds.

    Args:
      points: {legend: [(operations, seconds, model), ...]}.
    """
    for name, group in points.items():
        xs, ys, _ = zip(*group)
        axis.plot(xs, ys, label=name, linestyle="")
    numbers = [number for group in points.values() for point in group for number in point[:2]]
    lowest, highest = min(1.0, *numbers), max(numbers)
    margin = max(0.1 * (highest - lowest), 0.05)  # for the models' names too
    lowest, highest = lowest - margin, highest + margin
    for operations, seconds, model in next(iter(points.values())):
        side, offset = ("left", 5) if operations < (lowest + highest) / 2 else ("right", -5)
        axis.annotate(
            model,
            (operations, seconds),
            xytext=(offset, -10),
            textcoords="offset points",
            fontsize=8,
            ha=side,
        )
    axis.plot(
        (lowest, highest), (lowest, highest), color=INK, linewidth=1, linestyle=":", marker=""
    )
    axis.set(
        xlabel="speedup in operations",
        ylabel="speedup in seconds",
        xlim=(lowest, highest),
        ylim=(lowest, highest),
    )
    axis.legend()


def draw_curves(
    axis: Axes, lines: dict[str, Sequence[tuple[float, float, float]]], dense: float, *, label: str
) -> None:
    """Draw scores over FLOPs speedups, a line for each method.

    Args:
      lines: {method: [(speedup, score, its standard deviation or 0)]}, in percent.
    """
    axis.axhline(dense, color=INK, linewidth=1, linestyle=":", label="dense BERT")
    for name, points in lines.items():
        speedups, scores, spread = zip(*points)
        axis.errorbar(speedups, scores, yerr=spread if any(spread) else None, capsize=3, label=name)
    axis.set(xlabel="FLOPs speedup", ylabel=label)
    widen(axis, LEAST_OF_SCORES)
    axis.legend()
