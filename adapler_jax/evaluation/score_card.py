"""Write the scores of an evaluation into the cards of the models."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapler_jax.evaluation.score_tables import (
    about_orders,
    difference_cell,
    order_cells,
    time_cells,
)
from adapler_jax.evaluation.timing import NUM_TIMED_TEXTS
from adapler_jax.io.messages import one_line
from adapler_jax.io.records import write_json
from adapler_jax.weights.card import EVALUATION, PIPELINES, RESULTS, set_card_part, yaml_scalar
from adapler_jax.weights.config import SCORES_FILE
from adapler_jax.weights.save import Saved

SECTION = """## Scores

Measured by `{command}` ({device}, {date}). Scores are in percent. The difference to the dense model
has its paired standard error. FLOPs count true tokens. Times include padding but no tokenization.
{orders}
{table}"""


def write_scores(
    models: Mapping[str, Saved], record: dict[str, Any], *, log: Callable[[str], None]
) -> None:
    """Write the rows of each model into its folder and its card.

    Args:
      models: by name.
      record: of `results_record`, with rows of `evaluate_run`. Rows of other models, and of
        budgets, are left out.
      log: receives a note on a folder that cannot be written, or on a card that stays as it is.
    """
    rows = [row for row in record["rows"] if row["method"] in models]
    for name, saved in models.items():
        own = [row for row in rows if row["method"] == name]
        if not own:
            continue
        try:
            write_json(saved.directory / SCORES_FILE, record | {"rows": own})
            section = score_section(own, rows, record)
            set_card_part(saved.directory, section, part=EVALUATION, log=log)
            if saved.head.name in PIPELINES:
                results = hub_results(own, PIPELINES[saved.head.name])
                set_card_part(saved.directory, results, part=RESULTS)
        except OSError as error:
            log(f"the scores of {name} are not in its card: {error}")


def score_section(own: Sequence[dict], rows: Sequence[dict], record: dict[str, Any]) -> str:
    """Return the part of a card with a model's scores, in Markdown.

    Args:
      own: rows of the model, one for each split.
      rows: of all models.
      record: has the command, the device and the date.
    """
    lines = [_cells(row, rows) for row in own]
    titles = list(dict.fromkeys(title for line in lines for title in line))
    table = [titles, ["---"] * len(titles)]
    table += [[line.get(title, "").replace("|", "\\|") for title in titles] for line in lines]
    return SECTION.format(
        command=one_line(record["command"]),
        device=record["device"],
        date=record["date"].partition("T")[0],
        orders=f"{orders}.\n" if (orders := about_orders(own)) else "",
        table="\n".join(f"| {' | '.join(cells)} |" for cells in table),
    )


def _cells(row: dict, rows: Sequence[dict]) -> dict[str, str]:
    """Return the cells of a model on a split by the titles of their columns."""
    cells = {
        "split": row["split"],
        row["unit"]: f"{row['num_texts']:,}",
        row["metric"]: f"{100 * row['test_score']:.1f}",
    }
    if "difference" in row:
        cells["dense"] = f"{100 * row['dense_score']:.1f}"
        cells["difference"] = difference_cell(row)
        cells |= order_cells(row, [row])
    cells["FLOPs speedup"] = f"{row['flops_speedup']:.2f}x"
    for size in NUM_TIMED_TEXTS:
        if timed := time_cells(row, rows, size):
            speedup, milliseconds = timed
            cells[f"speedup, batch {size}"] = f"{speedup:.2f}x"
            cells[f"ms a text, batch {size}"] = f"{milliseconds:.2f}"
    return cells


def hub_results(own: Sequence[dict], pipeline: str) -> str:
    """Return the scores of a model as the Hugging Face Hub lists them, in YAML.

    A score that is no number is left out.
    """
    rows = [row for row in own if math.isfinite(row["test_score"])]
    if not rows:
        return ""
    lines = ["model-index:", f"- name: {yaml_scalar(own[0]['task'])}", "  results:"]
    for row in rows:
        lines += [
            "  - task:",
            f"      type: {pipeline}",
            "    dataset:",
            f"      name: {yaml_scalar(row['task'])}",
            f"      type: {yaml_scalar(row['task'])}",
            f"      split: {yaml_scalar(row['split'])}",
            "    metrics:",
            f"    - type: {yaml_scalar(row['metric'])}",
            f"      value: {yaml_scalar(row['test_score'])}",
            "    - type: flops_speedup",
            f"      value: {yaml_scalar(row['flops_speedup'])}",
        ]
    return "\n".join(lines)
