"""Make the report's sections from a run's records: tables, panels, notes on missing records."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from adapler_jax.evaluation.score_tables import (
    about_orders,
    class_rows,
    difference_cell,
    further_scores,
    number_rows,
    order_cells,
    text_speedup_cells,
    time_cells,
)
from adapler_jax.evaluation.timing import NUM_TIMED_TEXTS
from adapler_jax.io.records import format_cell
from adapler_jax.report import contents, plots
from adapler_jax.report.contents import RunRecord
from adapler_jax.report.curves import NAMES, curves
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.workdir import flatten, phase_directory, read_commands

TRAIN_AGAIN = "give the training command again, with the same config and workdir, to continue"
TIMED = "Each model was timed in turns with the dense one; ms are milliseconds a {}."
DETAILS = (
    "Details: efficiency (the speedup in seconds over the FLOPs speedup, above 1 where padding was "
    "saved too), tokens, calibration"
)
# Curves of a metrics log: title, axis label, name in training and validation lines, factor.
CURVES = (
    ("loss", "loss", "main", "nll", 1.0),
    ("score", "%", "accuracy", "score", 100.0),
    ("FLOPs speedup", "FLOPs speedup", "flops_speedup", "flops_speedup", 1.0),
)


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that is missing, and the command that makes it."""

    text: str
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture with its caption."""

    caption: str
    svg: Markup


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts in columns, or pairs of a name and a text. A folded table opens on a click."""

    caption: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    is_folded: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    about: str = ""
    notes: Sequence[Note] = ()
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether the section has nothing to show; the page omits it then."""
        return not (self.notes or self.tables or self.panels)


def table(caption: str, rows: list[dict]) -> Table:
    """Return rows as a table, without columns that no row has."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    return Table(
        caption, tuple(columns), [[format_cell(row.get(name)) for name in columns] for row in rows]
    )


def not_evaluated(run: RunRecord) -> list[Note]:
    """Return a note where evaluation.json is missing, or older than a model."""
    if not run.models:
        return [Note(f"No model is finished; {TRAIN_AGAIN}.")]
    if run.evaluation is None:
        return [
            Note("The run was not evaluated; this writes evaluation.json:", run.evaluate_command)
        ]
    absent = [
        name for name in run.models if name not in {row["method"] for row in run.evaluation["rows"]}
    ]
    return (
        [Note(f"evaluation.json lacks {', '.join(absent)}; evaluate again:", run.evaluate_command)]
        if absent
        else []
    )


def scores(run: RunRecord) -> Section:
    """Return scores, operations and seconds of every model, and their origin."""
    notes, record = not_evaluated(run), run.evaluation
    tables: list[Table] = []
    if record is not None:
        splits = " and ".join(dict.fromkeys(row["split"] for row in record["rows"]))
        tables.append(table(f"Each model on {splits}", score_table(record["rows"])))
        details = table(DETAILS, detail_table(record["rows"]))
        tables.append(dataclasses.replace(details, is_folded=True))
        origin = {
            name: record[name]
            for name in ("command", "commit", "device", "date")
            if record.get(name)
        }
        origin["versions"] = ", ".join(
            f"{name} {version}" for name, version in record.get("versions", {}).items()
        )
        tables.append(
            Table("How these numbers were made", (), [list(pair) for pair in origin.items()])
        )
    rows = record["rows"] if record is not None else []
    timed = ""
    if any("wall_ms_1" in row for row in rows):
        timed = TIMED.format(rows[0].get("unit", "texts").removesuffix("s"))
    if orders := about_orders(rows):
        timed = f"{timed} {orders}.".lstrip()
    return Section("scores", "Scores and speedups", timed, notes, tables)


def score_table(rows: list[dict]) -> list[dict]:
    """Return a row for each model and split, in units for readers."""
    return [
        {
            "model": row["method"],
            "split": row["split"],
            row.get("unit", "texts"): row["num_texts"],
            f"{row['metric']}, %": f"{100 * row['test_score']:.1f}",
            **{f"{name}, %": text for name, text in further_scores(row).items()},
            "majority class, %": f"{100 * row['majority_share']:.1f}"
            if "majority_share" in row
            else None,
            "against dense": difference_cell(
                {"difference": row["test_score"] - row["dense_score"]} | row
            ),
            **{f"{name}, %": text for name, text in order_cells(row, rows).items()},
        }
        | {
            name: text
            for size in NUM_TIMED_TEXTS
            for name, text in time_columns(row, rows, size).items()
        }
        | {"FLOPs speedup": f"{row['flops_speedup']:.2f}x"}
        for row in rows
    ]


def detail_table(rows: list[dict]) -> list[dict]:
    """Return how operations became seconds, tokens by layer and calibration, by model and split."""
    return [
        {"model": row["method"], "split": row["split"]}
        | {
            f"efficiency, {_batch(size)}": f"{ratio / row['flops_speedup']:.2f}"
            for size in NUM_TIMED_TEXTS
            if (ratio := row.get(f"wall_speedup_{size}")) is not None
        }
        | {"tokens in each layer": row["kept_tokens"]}
        | text_speedup_cells(row)
        | ({"calibration error, %": f"{100 * row['ece']:.1f}"} if "ece" in row else {})
        for row in rows
    ]


def time_columns(row: dict, rows: list[dict], size: int) -> dict[str, str]:
    """Return the measurements of a batch size; empty without measurements."""
    if not (timed := time_cells(row, rows, size)):
        return {}
    return {
        f"speedup, {_batch(size)}": f"{timed[0]:.2f}x",
        f"ms, {_batch(size)}": f"{timed[1]:.2f}",
    }


def _batch(size: int) -> str:
    """Return a batch size for a header of two lines, not three."""
    return f"batch\N{NO-BREAK SPACE}{size}"


def classes(run: RunRecord) -> Section:
    """Return scores and confusions of the classes: the fastest model's, and the others' folded."""
    rows = [row for row in run.score_rows() if row.get("classes")]
    tables: list[Table] = []
    for row in sorted(rows, key=lambda row: -row["flops_speedup"]):
        cells, caption = class_rows(row)
        found = table(f"{row['method']} on {row['split']}: {caption}", cells)
        tables.append(dataclasses.replace(found, is_folded=bool(tables)))
    return Section("classes", "Classes", tables=tables)


def numbers(run: RunRecord) -> Section:
    """Return the score of each of several numbers a text."""
    rows = run.model_rows()
    found = number_rows(rows)
    tables = [table(f"{rows[0]['metric']} in percent", found)] if found else []
    return Section("numbers", "Each number", tables=tables)


def phases(run: RunRecord) -> Section:
    """Return what was trained, and with which config."""
    notes = [] if run.is_finished else [Note(f"The run is not finished; {TRAIN_AGAIN}.")]
    config = [[name, str(value)] for name, value in flatten(run.config.to_dict()).items()]
    tables = [
        table("Phases of the run", contents.phase_rows(run)),
        Table("Config", (), config, is_folded=True),
    ]
    if commands := read_commands(run.workdir):
        tables.insert(
            1,
            Table(
                "Commands",
                (),
                [[str(number), line] for number, line in enumerate(commands, 1)],
            ),
        )
    return Section("phases", "Training", notes=notes, tables=tables)


def training_curves(run: RunRecord) -> Section:
    """Return losses, scores and speedups over the steps of every phase with a metrics log."""
    panels = []
    for phase in run.phases:
        entries = read_metrics_log(phase_directory(run.workdir, phase))
        for title, label, in_train, in_validation, factor in CURVES:
            train = contents.curve(entries, "train", in_train)
            validation = contents.curve(entries, "validation", in_validation)
            if train or validation:
                panels.append(
                    _panel(
                        f"{phase}: {title}",
                        f"{phase}-{title}",
                        plots.draw_training,
                        train,
                        validation,
                        label=label,
                        factor=factor,
                    )
                )
    notes = [] if panels else [Note(f"No step was recorded yet; {TRAIN_AGAIN}.")]
    about = f"A line has at most {plots.MAX_POINTS} points, means over neighbouring steps."
    return Section("curves", "Training curves", about if panels else "", notes, panels=panels)


def _panel(caption: str, name: str, draw: Callable, *data, **options) -> Panel:
    """Return a panel that a function of `plots` draws."""
    return Panel(caption, plots.panel(name, lambda axis: draw(axis, *data, **options)))


def layers(run: RunRecord) -> Section:
    """Return the fraction of tokens that each layer ran on, and AdapLeR's thresholds."""
    panels = []
    if kept := contents.kept_fractions(run):
        panels.append(
            _panel(
                "Tokens that each layer ran on",
                "kept",
                plots.draw_layers,
                kept,
                label="% of the tokens",
            )
        )
    if found := contents.thresholds(run):
        panels.append(
            _panel(
                "Thresholds: a token stays with a score of eta over the number of tokens",
                "thresholds",
                plots.draw_layers,
                found,
                label="threshold eta",
            )
        )
    return Section("layers", "Layers", panels=panels)


def lengths(num_tokens: np.ndarray | None, split: str, max_length: int) -> Section:
    """Return the lengths of a split's texts.

    Args:
      num_tokens: int [texts]; None where the lengths are not known.
    """
    if num_tokens is None:
        return Section("lengths", "Lengths of the texts")
    cut = int(np.sum(num_tokens >= max_length))
    about = (
        f"{len(num_tokens):,} texts of {np.mean(num_tokens):.1f} tokens on average, [CLS] and "
        f"[SEP] included; {cut:,} fill the model's {max_length} tokens and may have been cut."
    )
    panel = _panel(
        f"Texts of the {split} split by tokens", "lengths", plots.draw_lengths, num_tokens
    )
    return Section("lengths", "Lengths of the texts", about, panels=[panel])


def speed(run: RunRecord) -> Section:
    """Return speedups in operations against speedups in seconds."""
    points = {
        f"batch {size}": [
            (row["flops_speedup"], row[f"wall_speedup_{size}"], row["method"])
            for row in run.score_rows()
            if f"wall_speedup_{size}" in row
        ]
        for size in NUM_TIMED_TEXTS
    }
    points = {name: group for name, group in points.items() if group}
    if not points:
        return Section("speed", "Operations and seconds")
    about = "On the dotted line all operations that were saved became seconds."
    panel = _panel(
        "Speedup in operations against speedup in seconds", "speed", plots.draw_speed, points
    )
    return Section("speed", "Operations and seconds", about, panels=[panel])


def tradeoff(run: RunRecord) -> Section:
    """Return scores over speedups.

    The curves are of the run's own models, where it has several, and of a record of
    benchmarks.methods.
    """
    panels, rows = [], run.model_rows()
    own = [
        (row["flops_speedup"], 100 * row["test_score"], 0.0)
        for row in rows
        if row["method"] != "dense"
    ]
    dense = [100 * row["test_score"] for row in rows if row["method"] == "dense"]
    if len(own) > 1 and dense:
        lines = {NAMES.get(run.config.method, run.config.method): sorted(own)}
        label = f"{rows[0]['split']} score, %"
        panels.append(
            _panel("Models of this run", "own", plots.draw_curves, lines, dense[0], label=label)
        )
    if run.methods is not None:
        label = f"{run.methods['summary'][0]['split']} score, %"
        by_method = curves(run.methods["summary"])
        dense_score = by_method.pop("dense")[0][1]
        lines = {NAMES.get(method, method): points for method, points in by_method.items()}
        task = run.methods.get("config", {}).get("task", "another task")
        caption = f"Methods on {task}, means over the seeds"
        draw = plots.draw_curves
        panels.append(_panel(caption, "methods", draw, lines, dense_score, label=label))
    return Section("tradeoff", "Trade-off", panels=panels)


def rationales(run: RunRecord) -> Section:
    """Return how well kept tokens agree with human rationales; empty without a measurement."""
    if run.rationales is None:
        return Section("rationales", "Rationales")
    panels = []
    for metric, title in contents.RATIONALE_METRICS.items():
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in run.rationales["rows"]:
            layer, value = row.get("layer"), row.get(metric)
            if layer is not None and value is not None:  # other rows are of a whole model
                lines.setdefault(row["method"], []).append((layer + 1, value))
        lines = {NAMES.get(method, method): sorted(points) for method, points in lines.items()}
        if lines:
            panels.append(
                _panel(f"Rationales: {title}", metric, plots.draw_layers, lines, label=title)
            )
    return Section("rationales", "Rationales", f"From {contents.RATIONALES_FILE}.", panels=panels)
