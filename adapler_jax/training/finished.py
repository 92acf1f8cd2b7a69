"""Find and load the finished models of a workdir, and save a decision threshold in one."""

import pathlib
from typing import Any

import ml_collections

from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.atomic_files import checksum_path, write_checksums
from adapler_jax.io.fields import Fields, wrong_fields
from adapler_jax.io.provenance import subcommand_line
from adapler_jax.metrics.classification import THRESHOLD, check_threshold
from adapler_jax.training.methods import METHODS
from adapler_jax.training.phases import MAY_CHANGE, is_complete, load_phase_model, read_done
from adapler_jax.training.run import phase_list
from adapler_jax.training.setup import engine_options
from adapler_jax.training.validation import token_speedup
from adapler_jax.training.workdir import (
    ADAPT,
    CONFIG_FILE,
    only_process,
    phase_directory,
    read_fields,
    started_targets,
)
from adapler_jax.weights.config import CONFIG_FILE as MODEL_CONFIG
from adapler_jax.weights.save import save_model

DENSE = "dense"  # name of the fine-tuned model, which is in the directory of phase `finetune`
RESTORE_CONFIG = "restore it or train in another --workdir, which trains all phases again"
CONFIG_FIELDS: Fields = {
    "method": lambda value: value in METHODS,
    "model": str,
    "task": str,
}
DATA_FIELDS: Fields = {
    "source": str,
    "sources": dict,
    "columns": dict,
    "class_names": list,
    "split_fractions": dict,
    "split_seed": float,
    "num_train_examples": float,
    "max_length": float,
    "cache_dir": str,
}
KEPT_FIELDS = ("pruner_name", "pruner_options", "head", "class_names", "max_length", "task")


def read_run(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Return the config that a workdir was trained with.

    Raises:
      ValueError: the workdir holds no run, or a damaged one.
    """
    path = workdir / CONFIG_FILE
    if (workdir / MODEL_CONFIG).exists() and not path.exists():
        raise ValueError(
            f"{workdir} holds a model, and no run with models to compare; a model that keeps all "
            f"tokens has one speed: `adapler compress --model={workdir}` makes a faster one from "
            "it, and compares both"
        )
    if not path.exists():
        command = subcommand_line("train", "--config=PRESET", f"--workdir={workdir}")
        raise ValueError(
            f"{workdir} holds no run: there is no {CONFIG_FILE}; train one with `{command}`"
        )
    fields = read_fields(workdir, RESTORE_CONFIG)
    wrong = wrong_fields(fields, CONFIG_FIELDS)
    wrong += [f"data.{name}" for name in wrong_fields(fields.get("data"), DATA_FIELDS)]
    if wrong:
        raise ValueError(f"{path} is damaged (no or wrong {', '.join(wrong)}); {RESTORE_CONFIG}")
    return ml_collections.ConfigDict(fields)


def adapted_phases(workdir: pathlib.Path) -> list[str]:
    """Return the names of the started phases of target speedups, in the order of the speedups."""
    return started_targets(workdir, (ADAPT, *METHODS))


def finished_phases(workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the directories of the finished phases that end in a model, by the model's name.

    The order is `dense`, the method's model, then the models of target speedups by their speedups.

    Raises:
      ValueError: no phase is finished.
    """
    phases = {}
    for name in (*METHODS, *adapted_phases(workdir)):
        directory = phase_directory(workdir, name)
        # A speedup out of reach leaves no model.
        if is_complete(directory) and (directory / "model").exists():
            phases[DENSE if name == "finetune" else name] = directory
    if DENSE not in phases:
        raise ValueError(
            f"{workdir}: no phase is finished; train with the same config and workdir again"
        )
    return phases


def unfinished_phases(workdir: pathlib.Path) -> list[str]:
    """Return the names of the phases that were started and are not finished."""
    phases = [phase.name for phase in phase_list(read_run(workdir))]
    names = dict.fromkeys([*phases, *adapted_phases(workdir)])
    directories = {name: phase_directory(workdir, name) for name in names}
    return [
        name
        for name, directory in directories.items()
        if directory.exists() and not is_complete(directory)
    ]


def unreached_speedups(workdir: pathlib.Path) -> list[str]:
    """Return a sentence for each requested speedup that training did not reach."""
    notes = []
    for name in adapted_phases(workdir):
        done = read_done(workdir / name) if is_complete(workdir / name) else {}
        if not done.get("is_reached", True):
            speedup = done["validation"]["flops_speedup"]
            notes.append(f"{name} is left out: training reached {speedup:.2f}x and saved no model")
    return notes


def check_finished(workdir: pathlib.Path, name: str, phases: dict[str, pathlib.Path]) -> None:
    """Raise ValueError if a run has no finished model of this name."""
    if name not in phases:
        raise ValueError(f"{workdir} has no finished model {name!r}; there are {', '.join(phases)}")


def recorded_speedup(phase: pathlib.Path) -> float | None:
    """Return a finished model's FLOPs speedup on validation; None for the dense model."""
    return read_done(phase)["validation"].get("flops_speedup")


def expected_speedup(phase: pathlib.Path) -> float | None:
    """Return the speedup by which an engine chooses its driver: of dropped tokens alone."""
    return token_speedup(read_done(phase)["validation"])


def fastest_model(phases: dict[str, pathlib.Path]) -> str:
    """Return the name of the pruned model with the largest recorded speedup, else `dense`."""
    return max(phases, key=lambda name: recorded_speedup(phases[name]) or 0.0)


def load_options(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """Return a run's engine settings for one of its models, as keywords of `Classifier.load`."""
    config = read_run(workdir)
    speedup = expected_speedup(finished_phases(workdir)[name])
    cache = config.inference.get("compilation_cache", "")
    return engine_options(config) | {"expected_speedup": speedup, "compilation_cache": cache}


def load_named(workdir, name: str) -> Classifier:
    """Load a finished model of a run as a classifier, with the run's engine settings.

    Raises:
      ValueError: the run has no finished model of this name.
    """
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    check_finished(workdir, name, phases)
    return Classifier.load(phases[name] / "model", **load_options(workdir, name))


def load_fastest(workdir) -> tuple[str, Classifier]:
    """Load the model with the largest FLOPs speedup on validation, else the dense one.

    Returns:
      The name of the model, and its classifier with the run's engine settings.
    """
    workdir = pathlib.Path(workdir).expanduser()
    name = fastest_model(finished_phases(workdir))
    return name, load_named(workdir, name)


def check_saving(workdir: pathlib.Path, model: str | None, metric: str | None) -> None:
    """Raise ValueError if there is no threshold to save, or no such model to save it in."""
    if model and not metric:
        raise ValueError(
            f"--save_threshold={model} has no threshold to save; add --choose_threshold=f1"
        )
    if model:
        check_finished(workdir, model, finished_phases(workdir))


def save_threshold(workdir, name: str, threshold: float) -> pathlib.Path:
    """Write a decision threshold into a finished model of a run; later loads apply it.

    Args:
      workdir: of the run.
      name: of the model, as in `finished_phases`.
      threshold: probability from which the second class is predicted.

    Returns:
      The model's directory.

    Raises:
      ValueError: there is no such model, it is damaged, or it has other than two classes.
    """
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    check_finished(workdir, name, phases)
    saved = load_phase_model(phases[name])
    check_threshold(threshold, len(saved.class_names))
    kept = {field: getattr(saved, field) for field in KEPT_FIELDS}
    extra = saved.extra | {THRESHOLD: threshold}
    with only_process(workdir):
        # If the process is killed here, the model has no checksums, which is accepted on load.
        checksum_path(saved.directory).unlink(missing_ok=True)
        directory = save_model(saved.directory, saved.params, saved.config, extra=extra, **kept)
        write_checksums(directory, skip=MAY_CHANGE)
    return directory
