"""Print evaluated models: seconds, scores and confusions of classes, as tables for readers."""

from collections.abc import Sequence

from adapler_jax.evaluation.timing import NUM_TIMED_TEXTS
from adapler_jax.io.provenance import device_name
from adapler_jax.io.records import print_table

# Scores shown next to the main score, where a task has them.
SECONDARY_SCORES = (
    "exact",
    "best_span_f1",
    "joint_em",
    "sp_f1",
    "word_accuracy",
)
# Agreement with the dense model's order of documents, and its titles.
ORDER_SCORES = {"top10_overlap": "same top 10", "kendall_tau": "tau"}
ABOUT_ORDERS = (
    "Same top 10: the documents among the first ten that the dense model has there too; tau: "
    "Kendall's tau with its order; both are means over queries"
)
ABOUT_TAU = "Tau: Kendall's tau with the dense model's order of all texts, in percent"
FEW, MANY = 5, 20  # classes shown without --details, and with it


def time_cells(row: dict, rows: Sequence[dict], size: int) -> tuple[float, float] | None:
    """Return (speedup, milliseconds) of a row at a batch size; None where they were not measured.

    Args:
      row: of `evaluate_workdir`.
      rows: all of them; the first pruned model's row has the dense model's milliseconds.
      size: of the batch.
    """
    if f"wall_ms_{size}" in row:
        return row[f"wall_speedup_{size}"], row[f"wall_ms_{size}"]
    name = f"dense_wall_ms_{size}"
    dense = next((other[name] for other in rows if name in other), None)
    is_first = row["split"] == rows[0]["split"]
    return (1.0, dense) if row["method"] == "dense" and dense is not None and is_first else None


def is_few(row: dict) -> bool:
    """Return whether a row has so few classes that they are shown without --details."""
    return 0 < len(row.get("classes", ())) <= FEW


def class_rows(row: dict) -> tuple[list[dict], str]:
    """Return a row for each class, and a sentence about them.

    Args:
      row: of `evaluate_workdir`, with its `classes`.

    Returns:
      Of up to MANY classes all, with the counts of predictions; of more the worst by F1.
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
    """Return the rows with shown classes: all with details, else the fastest model's if few."""
    rows = [row for row in rows if row.get("classes")]
    if details or not rows:
        return rows
    fastest = max(
        (row for row in rows if row["split"] == rows[0]["split"]),
        key=lambda row: row["flops_speedup"],
    )
    return [fastest] if is_few(fastest) else []


def number_rows(rows: Sequence[dict]) -> list[dict]:
    """Return a row for each of several numbers, with the score of each model; else nothing.

    Args:
      rows: of `evaluate_workdir`, of one split.
    """
    scored = [row for row in rows if row.get("numbers")]
    names = [entry["name"] for entry in scored[0]["numbers"]] if scored else []
    return [
        {"number": name}
        | {row["method"]: f"{100 * row['numbers'][index]['score']:.1f}" for row in scored}
        for index, name in enumerate(names)
    ]


def about_orders(rows: Sequence[dict]) -> str:
    """Return a sentence on the agreement of orders in some rows; empty without any."""
    if any("top10_overlap" in row for row in rows):
        return ABOUT_ORDERS
    return ABOUT_TAU if any("kendall_tau" in row for row in rows) else ""


DETAILS = (
    "FLOPs speedups count true tokens; padding is what dense BERT alone saves without it; "
    "executed FLOPs\nare what ran, padding on both sides; efficiency is the speedup in seconds "
    "over the FLOPs speedup, above\n1 where the dense model computes padding"
)


def score_rows(rows: list[dict]) -> list[dict]:
    """Return the first table's rows: score, seconds, operations of each model on one split.

    Where further scores need the width, seconds are in `second_rows` alone.
    """
    has_pruned = any("difference" in row for row in rows)
    return [
        {"model": row["method"]}
        | {row["metric"]: f"{100 * row['test_score']:.1f}"}
        | ({"vs dense": difference_cell(row)} if has_pruned else {})
        | order_cells(row, rows)
        | further_scores(row)
        | ({} if any(map(further_scores, rows)) else seconds_of(row, rows))
        | {"FLOPs": f"{row['flops_speedup']:.2f}x"}
        for row in rows
    ]


def second_rows(rows: list[dict]) -> list[dict]:
    """Return the rows of the seconds on one split, where the first table has no width for them."""
    if not any(map(further_scores, rows)):
        return []
    cells = [(row["method"], seconds_of(row, rows)) for row in rows]
    return [{"model": name} | seconds for name, seconds in cells if seconds]


def further_scores(row: dict) -> dict[str, str]:
    """Return the cells of a row's scores next to its main score."""
    macro_f1 = {"macro F1": f"{100 * row['macro_f1']:.1f}"} if shows_macro_f1(row) else {}
    return macro_f1 | {name: f"{100 * row[name]:.1f}" for name in SECONDARY_SCORES if name in row}


def order_cells(row: dict, rows: list[dict]) -> dict[str, str]:
    """Return the cells of a row's agreement with the dense model's order of documents."""
    return {
        title: f"{100 * row[name]:.1f}" if name in row else ""
        for name, title in ORDER_SCORES.items()
        if any(name in other for other in rows)
    }


def difference_cell(row: dict) -> str:
    """Return the difference to the dense model in points ± its standard error; empty for dense."""
    if "difference" not in row:
        return ""
    error = row.get("difference_se")
    return f"{100 * row['difference']:+.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def shows_macro_f1(row: dict) -> bool:
    """Return whether the macro F1 has a column: an accuracy can hide rare classes among many."""
    is_other = row["metric"] not in ("accuracy", "macro_f1")
    return "macro_f1" in row and (
        is_other or (row["metric"] == "accuracy" and row.get("num_classes", 2) > 2)
    )


def seconds_of(row: dict, rows: list[dict]) -> dict[str, str]:
    """Return the cells of speedup and milliseconds at every batch size."""
    cells: dict[str, str] = {}
    for size in NUM_TIMED_TEXTS:
        if timed := time_cells(row, rows, size):
            cells |= {f"speedup @{size}": f"{timed[0]:.2f}x", f"ms @{size}": f"{timed[1]:.2f}"}
    return cells


def time_rows(rows: list[dict]) -> list[dict]:
    """Return the seconds for --details: a row for each model and batch size."""
    return [
        {
            "model": row["method"],
            "batch": batch_size,
            "driver": row[f"driver_{batch_size}"],
            "dense ms": f"{row[f'dense_wall_ms_{batch_size}']:.2f}",
            "ms": f"{row[f'wall_ms_{batch_size}']:.2f}",
            "speedup": f"{row[f'wall_speedup_{batch_size}']:.2f}x",
            "padding": f"{row[f'padding_speedup_{batch_size}']:.2f}x",
            "executed FLOPs": f"{row[f'executed_speedup_{batch_size}']:.2f}x",
            "efficiency": f"{row[f'wall_speedup_{batch_size}'] / row['flops_speedup']:.2f}",
        }
        for row in rows
        for batch_size in NUM_TIMED_TEXTS
        if f"wall_ms_{batch_size}" in row
    ]


def token_rows(rows: list[dict]) -> list[dict]:
    """Return the tokens and calibration for --details."""
    return [
        {"model": row["method"], "split": row["split"], "tokens in each layer": row["kept_tokens"]}
        | text_speedup_cells(row)
        | ({"calibration error": f"{100 * row['ece']:.1f}"} if "ece" in row else {})
        for row in rows
    ]


def text_speedup_cells(row: dict) -> dict[str, str]:
    """Return the range of the speedups of single texts, without the 5% at each end."""
    if "text_speedup_5" not in row:
        return {}
    return {"speedup of a text": f"{row['text_speedup_5']:.1f}x to {row['text_speedup_95']:.1f}x"}


def threshold_rows(rows: list[dict]) -> list[dict]:
    """Return the scores with the chosen decision thresholds."""
    return [
        {
            "model": row["method"],
            "split": row["split"],
            "threshold": f"{row['threshold']:.3f}",
            f"{row['threshold_metric']} with it": f"{100 * row['threshold_score']:.1f}",
            "without": f"{100 * row['likeliest_score']:.1f}",
            "on validation": f"{100 * row['threshold_validation_score']:.1f}",
        }
        for row in rows
        if "threshold_metric" in row  # a no-answer threshold has no metric of its own
    ]


def title_of(rows: list[dict]) -> str:
    """Return the title of the table of one split."""
    first, *_ = rows
    title = f"{first['num_texts']:,} {first['unit']} of {first['split']}; scores in percent"
    if "majority_share" in first:
        title += f"; majority class {100 * first['majority_share']:.1f}"
    if any("difference_se" in row for row in rows):
        title += "\nvs dense: difference on the same texts ± its paired standard error, in points"
    if about_orders(rows) == ABOUT_TAU:
        title += "\ntau: Kendall's tau with the dense model's order of all texts"
    elif about_orders(rows):
        title += (
            "\nsame top 10: documents that the first ten share with the dense model's; tau: "
            "Kendall's\nof both orders; means over queries"
        )
    title += "\nFLOPs: speedup in operations on true tokens"
    if not second_rows(rows):
        title += seconds_title(rows)
    return title


def seconds_title(rows: list[dict]) -> str:
    """Return the lines on seconds, each after a line feed; empty without seconds."""
    if not any("wall_ms_1" in row for row in rows):
        return ""
    unit, sizes = rows[0]["unit"], " and @".join(map(str, NUM_TIMED_TEXTS))
    return (
        f"\nms a {unit.removesuffix('s')}, each model in turns with the dense one\n"
        f"@{sizes}: {unit} in a batch; {device_name()}"
    )


def print_each_number(numbers: list[dict], rows: Sequence[dict]) -> None:
    """Print the rows of `number_rows`, if there are some.

    Args:
      numbers: to print.
      rows: that they are made of.
    """
    if numbers:
        split, metric = rows[0]["split"], rows[0]["metric"]
        print_table(numbers, title=f"each number on {split}: {metric} in percent")


def print_rows(rows: list[dict], *, details: bool) -> None:
    """Print all tables of an evaluation."""
    for split in dict.fromkeys(row["split"] for row in rows):
        found = [row for row in rows if row["split"] == split]
        print_table(score_rows(found), title=title_of(found))
        if seconds := second_rows(found):
            print_table(seconds, title=seconds_title(found).lstrip())
        numbers = number_rows(found)
        if details or len(numbers) <= FEW:
            print_each_number(numbers, found)
    if found := threshold_rows(rows):
        print_table(
            found,
            title="decision thresholds that are best on validation: the second class from there on",
        )
    for row in shown_models(rows, details=details):
        cells, caption = class_rows(row)
        model = row["method"] if details else f"{row['method']}, the fastest model,"
        print_table(cells, title=f"{model} on {row['split']}, by class: {caption}")
    if details:
        if timed := time_rows(rows):
            print_table(timed, title=DETAILS)
        print_table(
            token_rows(rows),
            title="tokens that each layer ran on, means; FLOPs speedup of a text, 5th to 95th "
            "percentile; calibration error in percent",
        )
