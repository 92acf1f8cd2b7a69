"""Return the speedup-score curves of `benchmarks.methods` that pictures and reports draw."""

from adapler_jax.training.methods import METHODS

NAMES = {name: method.title for name, method in METHODS.items()}
# Names in benchmarks.methods.
NAMES["student"] = METHODS["distill"].title
NAMES["adapler_student"] = "AdapLeR on a student"


def curves(summary: list[dict]) -> dict[str, list[tuple[float, float, float]]]:
    """Return the points of each method on the first split, by rising speedup.

    Returns:
      {method: [(FLOPs speedup, score in percent, its standard deviation or 0), ...]}.
    """
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in summary:
        if row["split"] != summary[0]["split"]:
            continue
        deviation = row.get("test_score_sd") or 0.0
        point = (row["flops_speedup"], 100 * row["test_score"], 100 * deviation)
        lines.setdefault(row["method"], []).append(point)
    return {method: sorted(points) for method, points in lines.items()}
