"""What a run's workdir holds for a report: records, journals, thresholds; and what it lacks."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from adapler_jax.evaluation.timing import NUM_TIMED_TEXTS
from adapler_jax.io.atomic_files import check_file
from adapler_jax.io.provenance import command_line
from adapler_jax.report.curves import curves
from adapler_jax.training.finished import RESTORE_CONFIG, finished_phases, read_run
from adapler_jax.training.methods import METHODS
from adapler_jax.training.phases import DONE, is_complete, read_done
from adapler_jax.training.run import phase_list
from adapler_jax.training.workdir import CONFIG_FILE, TRAIN_PHASE, read_seconds
from adapler_jax.weights.save import load_model

EVALUATION_FILE = "evaluation.json"
RATIONALES_FILE = "rationales.json"
Fields = dict[str, Callable[[Any], bool]]  # by name: whether a value is one


def is_text(value) -> bool:
    """Whether it is a string."""
    return isinstance(value, str)


def is_number(value) -> bool:
    """Whether it is one, and finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def is_number_or_nan(value) -> bool:
    """Whether it is a number of any kind; null is how JSON has NaN."""
    return value is None or isinstance(value, int | float)


def is_classes(value) -> bool:
    """Whether it is a list of the scores of classes, as `ClassScorer.details` has them."""
    names = ("precision", "recall", "f1", "support")
    return is_list(value) and all(
        is_object(row)
        and is_text(row.get("name"))
        and all(is_number(row.get(name)) for name in names)
        for row in value
    )


def is_matrix(value) -> bool:
    """Whether it is a square list of lists of numbers."""
    return is_list(value) and all(
        is_list(row) and len(row) == len(value) and all(map(is_number, row)) for row in value
    )


def is_positive(value) -> bool:
    """Whether it is a number above 0."""
    return is_number(value) and value > 0


def is_counts(value) -> bool:
    """Whether it is a list of positive numbers, one at least."""
    return is_list(value) and bool(value) and all(map(is_positive, value))


def is_number_or_none(value) -> bool:
    """Whether it is a number, or nothing."""
    return value is None or is_number(value)


def is_method(value) -> bool:
    """Whether it names a method that trains."""
    return value in METHODS


def is_list(value) -> bool:
    """Whether it is one."""
    return isinstance(value, list)


def is_object(value) -> bool:
    """Whether it holds values by name."""
    return isinstance(value, dict)


CONFIG_FIELDS = {
    "method": is_method,
    "model": is_text,
    "task": is_text,
}  # that a report reads of a run's config
DATA_FIELDS = {  # and of its section on data
    "source": is_text,
    "sources": is_object,
    "columns": is_object,
    "class_names": is_list,
    "split_fractions": is_object,
    "split_seed": is_number,
    "num_train_examples": is_number,
    "max_length": is_number,
    "cache_dir": is_text,
}
CLOSING_FIELDS = {"score": is_number}
SCORE_FIELDS = {
    "split": is_text,
    "method": is_text,
    "num_texts": is_number,
    "metric": is_text,
    "test_score": is_number,
    "dense_score": is_number,
    "flops_speedup": is_positive,
    "kept_tokens": is_counts,
}
TIME_NAMES = ("wall_ms", "wall_speedup", "dense_wall_ms")
TIME_FIELDS = {f"{name}_{size}": is_positive for name in TIME_NAMES for size in NUM_TIMED_TEXTS}
CLASS_FIELDS = {
    "majority_share": is_number,
    "ece": is_number,
    "classes": is_classes,
    "confusion": is_matrix,
}
METHOD_FIELDS = {
    "split": is_text,
    "method": is_text,
    "flops_speedup": is_positive,
    "test_score": is_number,
    "test_score_sd": is_number_or_none,
}
RATIONALE_FIELDS = {"method": is_text, "layer": is_number_or_none}
RATIONALE_METRICS = {
    "average_precision": "average precision",
    "false_positive_rate": "false positive rate",
}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A workdir, read."""

    workdir: pathlib.Path
    config: Any  # ConfigDict
    phases: list[str]  # that the config asks for
    models: dict[str, pathlib.Path]  # directories of finished phases that end in a model
    evaluation: dict | None  # records of evaluate.py, benchmarks.rationales and benchmarks.methods
    rationales: dict | None
    methods: dict | None

    @property
    def is_finished(self) -> bool:
        """Whether all phases are."""
        return all(is_complete(self.workdir / name) for name in self.phases)

    @property
    def evaluate_command(self) -> str:
        """What writes evaluation.json."""
        return command_line(["python", "evaluate.py", f"--workdir={self.workdir}"])

    def score_rows(self) -> list[dict]:
        """The rows of the first split of evaluation.json; none without it."""
        rows = self.evaluation["rows"] if self.evaluation else []
        return [row for row in rows if row["split"] == rows[0]["split"]]


def read_contents(workdir: pathlib.Path, methods_path: pathlib.Path | None) -> RunRecord:
    """Reads all but texts and weights. Raises ValueError where the folder holds no run, or a record is damaged."""
    config, phases = read_config(workdir)
    models = finished_phases(workdir) if is_complete(workdir / "finetune") else {}
    for phase in {*models.values(), *(workdir / name for name in phases)}:
        check_closing(phase)
    return RunRecord(
        workdir=workdir,
        config=config,
        phases=phases,
        models=models,
        evaluation=read_record(
            workdir / EVALUATION_FILE, "rows", SCORE_FIELDS, TIME_FIELDS | CLASS_FIELDS
        ),
        rationales=read_record(
            workdir / RATIONALES_FILE,
            "rows",
            RATIONALE_FIELDS,
            dict.fromkeys(RATIONALE_METRICS, is_number_or_nan),
        ),
        methods=methods_path and read_methods(methods_path),
    )


def read_config(workdir: pathlib.Path) -> tuple[Any, list[str]]:
    """A run's config and the names of its phases. Raises ValueError where the folder holds no run, or a damaged one."""
    path, config = workdir / CONFIG_FILE, read_run(workdir)
    fields = config.to_dict()
    data = fields.get("data") if is_object(fields.get("data")) else {}
    wrong = wrong_fields(fields, CONFIG_FIELDS) + [
        f"data.{name}" for name in wrong_fields(data, DATA_FIELDS)
    ]
    if wrong:
        raise ValueError(f"{path} is damaged (no or wrong {', '.join(wrong)}); {RESTORE_CONFIG}")
    try:
        return config, [name for name, _ in phase_list(config)]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!s:.80}); {RESTORE_CONFIG}") from error


def check_closing(phase: pathlib.Path) -> None:
    """Raises ValueError where the closing record of a finished phase that ends in a model has no scores."""
    if not is_complete(phase) or not (phase / "model").exists():
        return
    scores = read_done(phase).get("validation")
    if not is_object(scores) or wrong_fields(scores, CLOSING_FIELDS, {"flops_speedup": is_number}):
        raise ValueError(f"{phase / DONE} is damaged (it lacks validation scores); {TRAIN_PHASE}")


def wrong_fields(fields: dict, needed: Fields, optional: Fields | None = None) -> list[str]:
    """Names of the fields that are missing or hold something else."""
    missing = needed.keys() - fields.keys()
    checks = needed | (optional or {})
    return sorted(
        missing
        | {name for name, check in checks.items() if name in fields and not check(fields[name])}
    )


def read_methods(path: pathlib.Path) -> dict:
    """A record of benchmarks.methods. Raises ValueError where there is none, or no dense model in the split that is
    drawn.
    """
    record = read_record(path, "summary", METHOD_FIELDS)
    if record is None:
        raise ValueError(f"--methods={path}: there is no such file")
    if "dense" not in curves(record["summary"]):
        raise ValueError(
            f"--methods={path}: its summary has no row of the dense model on its first split; write it anew"
        )
    return record


def read_record(
    path: pathlib.Path, entry: str, needed: Fields, optional: Fields | None = None
) -> dict | None:
    """A benchmark's record; None where there is no file. Raises ValueError where its `entry` is no list of rows with
    these fields, or what it says of itself is damaged.
    """
    if not path.exists():
        return None
    check_file(path, "remove it or write it anew with evaluate.py")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        wrong = {name for row in record[entry] for name in wrong_fields(row, needed, optional)}
        wrong |= {name for name in ("versions", "config") if not is_object(record.get(name, {}))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record with {entry} ({error!r:.80}); remove it or write it anew"
        ) from error
    if wrong:
        raise ValueError(
            f"{path} has no or wrong {', '.join(sorted(wrong))}; remove it or write it anew"
        )
    return record


def phase_rows(run: RunRecord) -> list[dict]:
    """What the run did, a row a phase: its state, minutes, validation scores, and where and by which code it ended."""
    seconds, rows = read_seconds(run.workdir), []
    for name in run.phases:
        begun, done = (run.workdir / name).exists(), is_complete(run.workdir / name)
        closing = read_done(run.workdir / name) if done else {}
        scores = closing.get("validation", {})
        rows.append(
            {
                "phase": name,
                "state": "finished" if done else "not finished" if begun else "not begun",
                "minutes": f"{seconds[name] / 60:.1f}" if name in seconds else None,
                "validation score": f"{100 * scores['score']:.1f}" if "score" in scores else None,
                "FLOPs speedup": f"{scores['flops_speedup']:.2f}x"
                if "flops_speedup" in scores
                else None,
                "commit": str(closing.get("commit") or "")[:8],
                "device": closing.get("device"),
            }
        )
    return rows


def thresholds(run: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """{model: [(layer from 1, threshold eta)]} of the models that have trained thresholds."""
    found = {}
    for name, phase in run.models.items():
        leaves = load_model(phase / "model").params["pruner"]
        if "threshold_N" in leaves:
            found[name] = list(
                enumerate(np.asarray(leaves["threshold_N"], float).tolist(), start=1)
            )
    return found


def kept_fractions(run: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """{model: [(layer from 1, percent of the split's tokens that it ran on)]} of the evaluated models."""
    rows = {row["method"]: row["kept_tokens"] for row in run.score_rows()}
    return {
        name: [
            (layer, 100 * tokens / rows["dense"][0]) for layer, tokens in enumerate(kept, start=1)
        ]
        for name, kept in rows.items()
        if name != "dense" and "dense" in rows
    }


def curve(entries: list[dict], group: str, name: str) -> list[tuple[int, float]]:
    """[(step, value)] of one number of a journal."""
    return [
        (entry["step"], entry[name])
        for entry in entries
        if entry["group"] == group and is_number(entry.get(name))
    ]
