"""Seconds, and scores and confusions of classes of evaluated models, as rows of a table for people."""

from collections.abc import Sequence

FEW, MANY = 5, 20  # classes that are shown without being asked for, and at most


def time_cells(row: dict, rows: Sequence[dict], size: int) -> tuple[float, float] | None:
    """Return (speedup, milliseconds) of a row at a batch size; None where they were not measured.

    Args:
      row: of `evaluate_workdir`.
      rows: all of them; the dense model has the milliseconds next to the first other one.
      size: of the batch.
    """
    if f"wall_ms_{size}" in row:
        return row[f"wall_speedup_{size}"], row[f"wall_ms_{size}"]
    name = f"dense_wall_ms_{size}"
    dense = next((other[name] for other in rows if name in other), None)
    is_first = row["split"] == rows[0]["split"]
    return (1.0, dense) if row["method"] == "dense" and dense is not None and is_first else None


def is_few(row: dict) -> bool:
    """Say whether a row of `evaluate_workdir` has so few classes that they are shown without being asked for."""
    return 0 < len(row.get("classes", ())) <= FEW


def class_rows(row: dict) -> tuple[list[dict], str]:
    """Return a row a class, and a sentence on what they show.

    Args:
      row: of `evaluate_workdir`, with its `classes`.

    Returns:
      Of up to MANY classes all, with the counts of what was answered; of more the worst ones by F1.
    """
    classes, confusion = row["classes"], row.get("confusion")
    if len(classes) > MANY:
        present = [entry for entry in classes if entry["support"] > 0]
        worst = sorted(present, key=lambda entry: entry["f1"])[:MANY]
        return [
            _scores(entry) for entry in worst
        ], f"the {len(worst)} classes of {len(classes)} with the lowest F1"
    rows = [_scores(entry) for entry in classes]
    if confusion is None or len(confusion) != len(classes):
        return rows, "scores in percent"
    for cells, counts in zip(rows, confusion):
        cells |= {f"as {other['name']}": str(int(count)) for other, count in zip(classes, counts)}
    return rows, "scores in percent; of each labelled class, how many were answered as which"


def _scores(entry: dict) -> dict:
    """Return the cells of one class."""
    return (
        {"class": entry["name"]}
        | {
            title: f"{100 * entry[name]:.1f}"
            for title, name in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
        }
        | {"support": f"{int(entry['support']):,}"}
    )


def shown_models(rows: Sequence[dict], *, details: bool) -> list[dict]:
    """Return the rows whose classes are shown: with details all, else the fastest model's where classes are few."""
    rows = [row for row in rows if row.get("classes")]
    if details or not rows:
        return rows
    fastest = max(
        (row for row in rows if row["split"] == rows[0]["split"]),
        key=lambda row: row["flops_speedup"],
    )
    return [fastest] if is_few(fastest) else []
