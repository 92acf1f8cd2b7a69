"""What a run's workdir holds for a report: records, journals, thresholds; and what it lacks."""

import dataclasses
import json
import pathlib
import shlex
from typing import Any

import numpy as np

from adapler_jax.report.evaluation import finished_phases, read_run
from adapler_jax.training.phases import is_done, read_done
from adapler_jax.training.run import phase_list
from adapler_jax.training.workdir import SECONDS_FILE
from adapler_jax.weights.save import load_model

EVALUATION_FILE = "evaluation.json"
RATIONALES_FILE = "rationales.json"
RATIONALE_KEYS = ("method", "layer")
METHOD_KEYS = ("split", "method", "flops_speedup", "test_score", "test_score_sd")
SCORE_KEYS = ("split", "method", "num_texts", "metric", "test_score", "dense_score", "flops_speedup", "kept_tokens")


@dataclasses.dataclass(frozen=True)
class Run:
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
        return all(is_done(self.workdir / name) for name in self.phases)

    @property
    def evaluate_command(self) -> str:
        """What writes evaluation.json."""
        return f"python evaluate.py --workdir={shlex.quote(str(self.workdir))}"

    def score_rows(self) -> list[dict]:
        """The rows of the first split of evaluation.json; none without it."""
        rows = self.evaluation["rows"] if self.evaluation else []
        return [row for row in rows if row["split"] == rows[0]["split"]]


def read_contents(workdir: pathlib.Path, methods_path: pathlib.Path | None) -> Run:
    """Reads all but texts and weights. Raises ValueError where the folder holds no run, or a record is damaged."""
    config = read_run(workdir)
    phases = [name for name, _ in phase_list(config)]
    return Run(
        workdir=workdir,
        config=config,
        phases=phases,
        models=finished_phases(workdir) if is_done(workdir / "finetune") else {},
        evaluation=read_record(workdir / EVALUATION_FILE, "rows", SCORE_KEYS),
        rationales=read_record(workdir / RATIONALES_FILE, "rows", RATIONALE_KEYS),
        methods=methods_path and read_methods(methods_path),
    )


def read_methods(path: pathlib.Path) -> dict:
    """A record of benchmarks.methods. Raises ValueError where there is none, or no dense model in it."""
    record = read_record(path, "summary", METHOD_KEYS)
    if record is None:
        raise ValueError(f"--methods={path}: there is no such file")
    if "dense" not in (row["method"] for row in record["summary"]):
        raise ValueError(f"--methods={path}: its summary has no row of the dense model; write it anew")
    return record


def read_record(path: pathlib.Path, entry: str, keys: tuple[str, ...]) -> dict | None:
    """A benchmark's record; None where there is no file. Raises ValueError where its `entry` is no list of rows with
    these keys."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        missing = {key for row in record[entry] for key in keys if key not in row}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record with {entry} ({error!r:.80}); remove it or write it anew") from error
    if missing:
        raise ValueError(f"{path}: {entry} lack {', '.join(sorted(missing))}; remove it or write it anew")
    return record


def phase_rows(run: Run) -> list[dict]:
    """What the run did, a row a phase: its state, minutes, validation scores, and where and by which code it ended."""
    path = run.workdir / SECONDS_FILE
    seconds = json.loads(path.read_text()) if path.exists() else {}
    rows = []
    for name in run.phases:
        begun, done = (run.workdir / name).exists(), is_done(run.workdir / name)
        closing = read_done(run.workdir / name) if done else {}
        scores = closing.get("validation", {})
        rows.append({
            "phase": name, "state": "finished" if done else "not finished" if begun else "not begun",
            "minutes": f"{seconds[name] / 60:.1f}" if name in seconds else None,
            "validation score": f"{100 * scores['score']:.1f}" if "score" in scores else None,
            "FLOPs speedup": f"{scores['flops_speedup']:.2f}x" if "flops_speedup" in scores else None,
            "commit": (closing.get("commit") or "")[:8], "device": closing.get("device"),
        })  # fmt: skip
    return rows


def thresholds(run: Run) -> dict[str, list[tuple[int, float]]]:
    """{model: [(layer from 1, threshold eta)]} of the models that have trained thresholds."""
    found = {}
    for name, phase in run.models.items():
        leaves = load_model(phase / "model").params["pruner"]
        if "threshold_N" in leaves:
            found[name] = list(enumerate(np.asarray(leaves["threshold_N"], float).tolist(), start=1))
    return found


def kept_shares(run: Run) -> dict[str, list[tuple[int, float]]]:
    """{model: [(layer from 1, percent of the test split's tokens that it ran on)]} of the evaluated models."""
    rows = {row["method"]: row["kept_tokens"] for row in run.score_rows()}
    return {
        name: [(layer, 100 * tokens / rows["dense"][0]) for layer, tokens in enumerate(kept, start=1)]
        for name, kept in rows.items()
        if name != "dense" and "dense" in rows
    }


def curve(entries: list[dict], group: str, name: str) -> list[tuple[int, float]]:
    """[(step, value)] of one number of a journal."""
    return [(entry["step"], entry[name]) for entry in entries if entry["group"] == group and name in entry]
