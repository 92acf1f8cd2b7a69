r"""Draw the speedup-score curves of `benchmarks.methods`, a line for each method.

A point is a value of the method's trade-off parameter.

    python -m benchmarks.plot_methods benchmarks/results/methods-TASK.json \
        --out=benchmarks/results/methods-TASK.png
"""

import argparse
import json

from adapler_jax.cli.console import exit_on_user_error
from adapler_jax.report.curves import NAMES, curves
from benchmarks.pyplot import load_pyplot

COLORS = {
    "adapler": "#2166ac",
    "adapler_student": "#67a9cf",
    "powerbert": "#b35806",
    "trbert": "#1b7837",
    "student": "#762a83",
}


def plot_curves(rows: list[dict], summary: list[dict], path, *, title: str) -> None:
    """Write the picture: a small point for each seed, lines through the means over seeds."""
    pyplot, lines = load_pyplot(), curves(summary)
    figure, axis = pyplot.subplots(figsize=(6.0, 4.0), layout="constrained")
    axis.axhline(
        lines.pop("dense")[0][1], color="0.4", linewidth=1, linestyle=":", label="dense BERT"
    )
    for method, points in lines.items():
        speedups, scores, spread = zip(*points)
        own = [
            row for row in rows if row["method"] == method and row["split"] == summary[0]["split"]
        ]
        axis.scatter(
            [row["flops_speedup"] for row in own],
            [100 * row["test_score"] for row in own],
            s=14,
            linewidth=0.8,
            facecolor="none",
            edgecolor=COLORS.get(method),
            alpha=0.7,
        )
        axis.errorbar(
            speedups,
            scores,
            yerr=spread,
            marker="o",
            markersize=4,
            capsize=3,
            color=COLORS.get(method),
            label=NAMES.get(method, method),
        )
    axis.set(
        xlabel="FLOPs speedup", ylabel="test score, %", title=f"{title}: seeds, and their means"
    )
    axis.grid(color="0.93")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """Draw the summary of one record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    with open(options.record, encoding="utf-8") as file:
        record = json.load(file)
    plot_curves(record["rows"], record["summary"], options.out, title=record["config"]["task"])


if __name__ == "__main__":
    with exit_on_user_error():
        main()
