"""Return the speedup-score curves of `benchmarks.methods` that pictures and reports draw."""

from adapler_jax.training.methods import METHODS

NAMES = {name: method.title for name, method in METHODS.items()}
NAMES["student"] = METHODS["distill"].title  # as benchmarks.methods names it


def curves(summary: list[dict]) -> dict[str, list[tuple[float, float, float]]]:
    """{method: [(FLOPs speedup, score in percent, its standard deviation or 0), ...]}, by rising speedup, of the first
    split.
    """
    lines = {}
    for row in summary:
        if row["split"] != summary[0]["split"]:
            continue
        point = (row["flops_speedup"], 100 * row["test_score"], 100 * (row["test_score_sd"] or 0.0))
        lines.setdefault(row["method"], []).append(point)
    return {method: sorted(points) for method, points in lines.items()}
