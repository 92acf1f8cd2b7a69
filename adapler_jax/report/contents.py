"""Read what a report shows of a workdir: records, metrics logs and thresholds."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from adapler_jax.evaluation.timing import NUM_TIMED_TEXTS
from adapler_jax.io.atomic_files import check_file
from adapler_jax.io.fields import Fields, fits, wrong_fields
from adapler_jax.io.provenance import subcommand_line
from adapler_jax.report.curves import curves
from adapler_jax.training.finished import RESTORE_CONFIG, finished_phases, read_run
from adapler_jax.training.phases import DONE, is_complete, read_done
from adapler_jax.training.run import phase_list
from adapler_jax.training.workdir import CONFIG_FILE, TRAIN_PHASE, phase_directory, read_seconds
from adapler_jax.weights.save import load_model

EVALUATION_FILE = "evaluation.json"
RATIONALES_FILE = "rationales.json"


def is_positive(value: Any) -> bool:
    """Return whether a value is a number above 0."""
    return fits(value, float) and value > 0


def are_counts(value: Any) -> bool:
    """Return whether a value is a list of positive numbers, with at least one."""
    return fits(value, list) and bool(value) and all(map(is_positive, value))


def are_classes(value: Any) -> bool:
    """Return whether a value is a list of class scores, as `ClassScorer.details` returns them."""
    return fits(value, list) and not any(wrong_fields(row, CLASS_ROW) for row in value)


def are_numbers(value: Any) -> bool:
    """Return whether a value is a list of scores by name, as `NumberScorer.details` returns it."""
    fields: Fields = {"name": str, "score": float}
    return fits(value, list) and not any(wrong_fields(row, fields) for row in value)


def is_matrix(value: Any) -> bool:
    """Return whether a value is a square list of lists of numbers."""
    return fits(value, list) and all(
        fits(row, list) and len(row) == len(value) and all(fits(cell, float) for cell in row)
        for row in value
    )


CLASS_ROW: Fields = {
    "name": str,
    "precision": float,
    "recall": float,
    "f1": float,
    "support": float,
}
RESULT_FIELDS: Fields = {
    "split": str,
    "method": str,
    "flops_speedup": is_positive,
    "test_score": float,
}
SCORE_FIELDS: Fields = RESULT_FIELDS | {
    "num_texts": float,
    "metric": str,
    "dense_score": float,
    "kept_tokens": are_counts,
}
TIME_NAMES = ("wall_ms", "wall_speedup", "dense_wall_ms")
OPTIONAL_SCORE_FIELDS: Fields = {
    "majority_share": float,
    "macro_f1": float,
    "text_speedup_5": is_positive,
    "text_speedup_95": is_positive,
    "difference": float,
    "difference_se": lambda value: value is None or fits(value, float),
    "kendall_tau": float,
    "top10_overlap": float,
    "ece": float,
    "classes": are_classes,
    "numbers": are_numbers,
    "confusion": is_matrix,
}
OPTIONAL_SCORE_FIELDS |= {
    f"{name}_{size}": is_positive for name in TIME_NAMES for size in NUM_TIMED_TEXTS
}
RATIONALE_FIELDS: Fields = {
    "method": str,
    "layer": lambda value: value is None or fits(value, float),
}
RATIONALE_METRICS = {
    "average_precision": "average precision",
    "false_positive_rate": "false positive rate",
}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The content of a workdir."""

    workdir: pathlib.Path
    config: Any  # ConfigDict
    phases: list[str]  # of the config
    models: dict[str, pathlib.Path]  # directories of finished phases that end in a model
    evaluation: dict | None  # records of evaluate.py, benchmarks.rationales and benchmarks.methods
    rationales: dict | None
    methods: dict | None

    @property
    def is_finished(self) -> bool:
        """Return whether all phases are finished."""
        return all(is_complete(phase_directory(self.workdir, name)) for name in self.phases)

    @property
    def evaluate_command(self) -> str:
        """Return the command that writes evaluation.json."""
        return subcommand_line("evaluate", f"--workdir={self.workdir}")

    def score_rows(self) -> list[dict]:
        """Return the rows of the first split of evaluation.json; empty without the file."""
        rows = self.evaluation["rows"] if self.evaluation else []
        return [row for row in rows if row["split"] == rows[0]["split"]]

    def model_rows(self) -> list[dict]:
        """Return the rows of `score_rows` of the run's models at their own speeds."""
        return [
            row
            for row in self.score_rows()
            if not row.get("is_baseline") and row.get("budget") is None
        ]


def read_contents(workdir: pathlib.Path, methods_path: pathlib.Path | None) -> RunRecord:
    """Read all but texts and weights.

    Args:
      workdir: of the run.
      methods_path: record of benchmarks.methods, or None.

    Raises:
      ValueError: the folder holds no run, or a record is damaged.
    """
    config, phases = read_config(workdir)
    models = finished_phases(workdir) if is_complete(workdir / "finetune") else {}
    for phase in {*models.values(), *(phase_directory(workdir, name) for name in phases)}:
        check_closing(phase)
    return RunRecord(
        workdir=workdir,
        config=config,
        phases=phases,
        models=models,
        evaluation=read_record(
            workdir / EVALUATION_FILE, "rows", SCORE_FIELDS, optional=OPTIONAL_SCORE_FIELDS
        ),
        rationales=read_record(workdir / RATIONALES_FILE, "rows", RATIONALE_FIELDS),
        methods=read_methods(methods_path) if methods_path else None,
    )


def read_config(workdir: pathlib.Path) -> tuple[Any, list[str]]:
    """Return a run's config and the names of its phases.

    Raises:
      ValueError: the folder holds no run, or a damaged one.
    """
    config = read_run(workdir)
    try:
        return config, [name for name, _ in phase_list(config)]
    except (AttributeError, TypeError, ValueError) as error:
        path = workdir / CONFIG_FILE
        raise ValueError(f"{path} is damaged ({error!s:.80}); {RESTORE_CONFIG}") from error


def check_closing(phase: pathlib.Path) -> None:
    """Raise ValueError if the closing record of a phase with a model has no scores."""
    if not is_complete(phase) or not (phase / "model").exists():
        return
    scores = read_done(phase).get("validation")
    if wrong_fields(scores, {"score": float}, {"flops_speedup": float}):
        raise ValueError(f"{phase / DONE} is damaged (it lacks validation scores); {TRAIN_PHASE}")


def read_methods(path: pathlib.Path) -> dict:
    """Return a record of benchmarks.methods.

    Raises:
      ValueError: the file does not exist, is damaged, or has no dense model on its first split.
    """
    record = read_record(path, "summary", RESULT_FIELDS)
    if record is None:
        raise ValueError(f"--methods={path}: there is no such file")
    if "dense" not in curves(record["summary"]):
        raise ValueError(
            f"--methods={path}: its summary has no row of the dense model on its first split; "
            "write it again"
        )
    return record


def read_record(
    path: pathlib.Path, entry: str, needed: Fields, *, optional: Fields | None = None
) -> dict | None:
    """Return the record of a benchmark; None without a file.

    Args:
      path: of the record.
      entry: its field with a list of rows.
      needed: fields of each row and their kinds.
      optional: fields that a row may lack.

    Raises:
      ValueError: the record has no such rows, or is damaged.
    """
    if not path.exists():
        return None
    check_file(path, "remove it or write it again with `adapler evaluate`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        wrong = {name for row in record[entry] for name in wrong_fields(row, needed, optional)}
        wrong |= {name for name in ("versions", "config") if not fits(record.get(name, {}), dict)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record with {entry} ({error!r:.80}); remove it or write it again"
        ) from error
    if wrong:
        raise ValueError(
            f"{path} has no or wrong {', '.join(sorted(wrong))}; remove it or write it again"
        )
    return record


def phase_rows(run: RunRecord) -> list[dict]:
    """Return a row for each phase: state, minutes, validation scores, commit and device."""
    seconds, rows = read_seconds(run.workdir), []
    for name in run.phases:
        directory = phase_directory(run.workdir, name)
        is_started, is_finished = directory.exists(), is_complete(directory)
        closing = read_done(directory) if is_finished else {}
        scores = closing.get("validation", {})
        speedup = scores.get("flops_speedup")
        state = "finished" if is_finished else "not finished" if is_started else "not begun"
        rows.append(
            {
                "phase": name,
                "state": state,
                "minutes": f"{seconds[name] / 60:.1f}" if name in seconds else None,
                "validation score": f"{100 * scores['score']:.1f}" if "score" in scores else None,
                "FLOPs speedup": None if speedup is None else f"{speedup:.2f}x",
                "commit": str(closing.get("commit") or "")[:8],
                "device": closing.get("device"),
            }
        )
    return rows


def thresholds(run: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """Return {model: [(layer from 1, threshold eta)]} of the models with trained thresholds."""
    found = {}
    for name, phase in run.models.items():
        leaves = load_model(phase / "model").params["pruner"]
        if "threshold_N" in leaves:
            threshold_N = np.asarray(leaves["threshold_N"], float)
            found[name] = list(enumerate(threshold_N.tolist(), start=1))
    return found


def kept_fractions(run: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """Return {model: [(layer from 1, percent of the split's tokens)]} of the evaluated models."""
    rows = {row["method"]: row["kept_tokens"] for row in run.model_rows()}
    return {
        name: [
            (layer, 100 * tokens / rows["dense"][0]) for layer, tokens in enumerate(kept, start=1)
        ]
        for name, kept in rows.items()
        if name != "dense" and "dense" in rows
    }


def curve(entries: list[dict], group: str, name: str) -> list[tuple[int, float]]:
    """Return [(step, value)] of one metric of a log."""
    return [
        (entry["step"], entry[name])
        for entry in entries
        if entry["group"] == group and fits(entry.get(name), float)
    ]
