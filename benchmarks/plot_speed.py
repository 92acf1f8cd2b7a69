"""Draw speedup in operations against speedup in seconds, from the rows of `benchmarks.engines`.

    python -m benchmarks.plot_speed benchmarks/results/engines-*.json --out=PATH.svg

The picture has a panel for each model and batch shape. On the diagonal all saved operations became
seconds. A driver can be above the diagonal, because plain BERT computes padding.
"""

import argparse
import json
import pathlib

from adapler_jax.cli.console import exit_on_user_error
from benchmarks.pyplot import load_pyplot

COLORS = {"bucketed": "#b35806", "packed": "#2166ac"}
STYLES = {"float32": "-", "bfloat16": "--"}
TICKS = (1, 2, 3, 5, 9, 17)


def curves(rows: list[dict]) -> dict:
    """Return the points of AdapLeR's rows.

    Returns:
      {(model, batch, length): {(engine, dtype): [(FLOPs speedup, wall-clock speedup), ...]}}.
    """
    panels = {}
    for row in rows:
        is_shown = row["texts"] == "mixed" and row["engine"] in COLORS
        if is_shown and row.get("method", "adapler") == "adapler":  # older records have no other
            lines = panels.setdefault((row["model"], row["batch"], row["length"]), {})
            lines.setdefault((row["engine"], row["dtype"]), []).append(
                (row["flops_speedup"], row["wall_speedup"])
            )
    return panels


def draw(panels: dict, names: dict, path: pathlib.Path) -> None:
    """Write the picture, format by the suffix; a row of panels for each model."""
    pyplot = load_pyplot()
    pyplot.rcParams["svg.hashsalt"] = "speed"  # equal rows give an equal file
    models = list(dict.fromkeys(model for model, *_ in panels))
    shapes = sorted({tuple(shape) for _, *shape in panels})
    figure, axes = pyplot.subplots(
        len(models),
        len(shapes),
        figsize=(2.6 * len(shapes) + 0.6, 2.6 * len(models) + 0.8),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for (row, model), (column, shape) in (
        (r, c) for r in enumerate(models) for c in enumerate(shapes)
    ):
        axis = axes[row, column]
        if (model, *shape) not in panels:
            axis.set_visible(False)
            continue
        axis.set(xscale="log", yscale="log", xlim=(0.9, 10), ylim=(0.6, 20))
        for ticks in (axis.xaxis, axis.yaxis):
            ticks.set_major_locator(pyplot.FixedLocator(TICKS))
            ticks.set_minor_locator(pyplot.NullLocator())
            ticks.set_major_formatter(pyplot.FormatStrFormatter("%dx"))
        axis.plot((0.5, 20), (0.5, 20), color="0.7", linewidth=1, label="all saved operations")
        axis.grid(color="0.93")
        axis.set_title(f"{names.get(model, model)}, {shape[0]} x {shape[1]}", fontsize=9)
        for (engine, dtype), points in panels.get((model, *shape), {}).items():
            axis.plot(
                *zip(*points),
                STYLES[dtype],
                marker="o",
                markersize=3,
                color=COLORS[engine],
                label=f"{engine}, {dtype}",
            )
    handles = {
        label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    figure.supxlabel("speedup in operations", fontsize=9)
    figure.supylabel("speedup in seconds", fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def main(arguments=None) -> dict:
    """Read, draw and return the curves.

    Raises:
      ValueError: the files contain no row to draw.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "records", nargs="+", type=pathlib.Path, help="JSON written by benchmarks.engines"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args(arguments)
    rows = [row for path in options.records for row in json.loads(path.read_text())["rows"]]
    if not all("texts" in row for row in rows):
        raise ValueError(
            "a record is of an older benchmarks.engines, whose rows lack `texts`; measure it again"
        )
    panels = curves(rows)
    if not panels:
        raise ValueError(
            f"{', '.join(map(str, options.records))}: "
            f"no row of {' or '.join(COLORS)} on mixed texts"
        )
    draw(panels, {"minilm": "MiniLM-L6", "base": "BERT-base"}, options.out)
    return panels


if __name__ == "__main__":
    with exit_on_user_error():
        main()
