"""Draw agreement with human rationales over the layers, a line for each method."""

from benchmarks.pyplot import load_pyplot

STYLES = {
    "adapler": ("AdapLeR's predictors", "#2166ac", "-"),
    "attention": ("attention of [CLS]", "#b35806", "-"),
    "attention received": ("attention received", "#b35806", ":"),
    "rollout": ("attention rollout", "#1b7837", "-"),
    "saliency": ("saliency", "#762a83", "-"),
    "random": ("random", "0.5", ":"),
}
PANELS = {
    "average_precision": "average precision",
    "false_positive_rate": "false positive rate at 1 / n",
}


def plot_layers(summary: list[dict], path) -> None:
    """Draw the rows of a summary that belong to a layer."""
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(9.0, 3.8), layout="constrained")
    for axis, (column, title) in zip(axes, PANELS.items()):
        for method, (name, color, style) in STYLES.items():
            rows = [row for row in summary if row["method"] == method and row["layer"] is not None]
            axis.errorbar(
                [row["layer"] + 1 for row in rows],
                [row[column] for row in rows],
                yerr=[row[column + "_sd"] or 0.0 for row in rows],
                label=name,
                color=color,
                linestyle=style,
                marker="o",
                markersize=3,
                capsize=2,
            )
        axis.set(xlabel="layer", ylabel=title, ylim=(0.0, None))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(color="0.93")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
