"""Run one config in one workdir: check the config, then walk its phases in order.

A second call continues where the first one stopped.
"""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from adapler_jax.data.sources.delimited import ignore
from adapler_jax.inference.compute_dtype import AUTO
from adapler_jax.inference.engine import DRIVER_NAMES
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.presets import old_names
from adapler_jax.training.balance import BALANCED
from adapler_jax.training.growth import grow
from adapler_jax.training.methods import METHODS
from adapler_jax.training.methods.base import COMMON_RANGES
from adapler_jax.training.methods.finetune import FINETUNE
from adapler_jax.training.phases import SETTINGS, Phase, is_complete, read_done
from adapler_jax.training.setup import RunContext, data_digests, load_run_context, operands
from adapler_jax.training.summary import describe, summary
from adapler_jax.training.workdir import (
    CONFIG_FILE,
    check_data,
    check_workdir_config,
    claim_workdir,
    counting_seconds,
    flatten,
    is_of_release_0_1,
    only_process,
    read_fields,
    record_command,
)
from adapler_jax.types import COMPUTE_DTYPES

MAX_SEED = 2**32 - 1  # of the generators of NumPy and JAX
AT_LEAST_ONE = (1, math.inf)

# Fields that all methods share: values of choices, then ranges of numbers, by dotted name. The
# sections of a method have theirs in its record.
ALLOWED: dict[str, Sequence[str]] = {
    "compute_dtype": (*COMPUTE_DTYPES, AUTO),
    "data.truncation_side": ("", "right", "left", "middle"),
    "class_weight": ("none", BALANCED),
    "inference.driver": DRIVER_NAMES,
}
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, MAX_SEED),
    "data.split_seed": (0, MAX_SEED),
    "qa.doc_stride": AT_LEAST_ONE,
    "qa.max_answer_tokens": AT_LEAST_ONE,
    "qa.max_answers": AT_LEAST_ONE,
    "qa.max_candidates": AT_LEAST_ONE,
    "qa.max_option_tokens": AT_LEAST_ONE,
    "qa.max_packed_questions": AT_LEAST_ONE,
    "qa.max_question_tokens": AT_LEAST_ONE,
    "qa.max_sentences": AT_LEAST_ONE,
    "qa.n_best_size": AT_LEAST_ONE,
    "qa.num_validation_examples": (0, math.inf),
}


def check_config(config: ConfigDict) -> None:
    """Check every field that has a rule, before any work.

    Raises:
      ValueError: a choice has another value, a number is out of its range, or fields contradict
        each other.
    """
    fields = flatten(config.to_dict())
    check_choices(fields, {"method": tuple(METHODS), **ALLOWED})
    check_ranges(fields, RANGES)
    for method in METHODS.values():
        for name, section in method.sections.items():
            inside = _fields_of_section(fields, name)
            check_choices(inside, _dotted(name, section.allowed))
            check_ranges(inside, _dotted(name, COMMON_RANGES | dict(section.ranges)))
    check_learning_rates_and_dropout(fields)
    if config.method not in config:
        raise ValueError(
            f"config.method is {config.method!r}, but the config has no section of that name"
        )
    METHODS[config.method].check_config(config)


def _fields_of_section(fields: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return the flat fields of one section."""
    prefix = f"{section}."
    return {name: value for name, value in fields.items() if name.startswith(prefix)}


def _dotted(section: str, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return rules by dotted names."""
    return {f"{section}.{name}": rule for name, rule in rules.items()}


def check_choices(fields: Mapping[str, Any], allowed: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError where a choice has a value that is not allowed."""
    for name, choices in allowed.items():
        if name in fields and fields[name] not in choices:
            expected = " or ".join(filter(None, choices))
            raise ValueError(f"config.{name} is {fields[name]!r}; expected {expected}")


def check_ranges(fields: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise ValueError where a number is out of its range."""
    for name, (lowest, highest) in ranges.items():
        if name in fields and not lowest <= fields[name] <= highest:
            expected = f"{lowest} or more" if math.isinf(highest) else f"{lowest} to {highest}"
            raise ValueError(f"config.{name} is {fields[name]}; expected {expected}")


def check_learning_rates_and_dropout(fields: Mapping[str, Any]) -> None:
    """Raise ValueError where a learning rate or a dropout probability is out of its range."""
    for name, value in fields.items():
        if name.endswith("_dropout_prob") and not value < 1.0:
            raise ValueError(
                f"config.{name} is {value}; expected less than 1, negative for the checkpoint's"
            )
        if name.endswith("learning_rate") and not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"config.{name} is {value}; expected a finite number, 0 or more")


def phase_list(config: ConfigDict) -> list[Phase]:
    """Return the phases of a run in their order."""
    return [FINETUNE, *METHODS[config.method].phases(config)]


def with_present_names(config: ConfigDict, log: Callable[[str], None]) -> ConfigDict:
    """Return a config whose fields have the names of this release; note each that had another."""
    fields = config.to_dict()
    for old, new in old_names.old_fields(fields).items():
        log(f"config.{old} is now config.{new}")
    upgraded = old_names.upgrade_config(fields)
    return config if upgraded == fields else ConfigDict(upgraded).lock()


def with_operands(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
    """Return a config whose `compute_dtype` "auto" is the choice of this run, or of this device."""
    if config.compute_dtype != AUTO:
        return config
    begun = read_fields(workdir) if (workdir / CONFIG_FILE).exists() else {}
    chosen = ConfigDict(config.to_dict())
    chosen.compute_dtype = begun.get("compute_dtype") or operands(AUTO)
    return chosen.lock()


def run_all(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    *,
    log: Callable[[str], None] = print,
    last_phase: str | None = None,
    command: str = "",
) -> None:
    """Walk the phases of a run. Finished phases are not repeated.

    Args:
      config: as the files in `configs/` build it.
      workdir: directory of the run.
      log: receives notes, one line each.
      last_phase: name of the phase to stop after; None for all.
      command: one line that reports give as the command that trained the run.

    Raises:
      ValueError: a field, the data, the model or a file of the run is wrong.
      OSError: a file cannot be read or written.
      FloatingPointError: a loss is not finite.
    """
    workdir = pathlib.Path(workdir).expanduser()
    config = with_operands(with_present_names(config, log), workdir)
    check_config(config)
    # Data and weights take time, so the workdir is checked before they are loaded.
    check_workdir_config(workdir, config.to_dict())
    use_compilation_cache(config.inference.compilation_cache, log=log)
    continues = (workdir / CONFIG_FILE).exists()
    if continues:  # the first call gave the notes of checkpoint and data
        log(f"continues the run in {workdir}")
        if is_of_release_0_1(workdir):
            log(
                f"{workdir} was begun with release 0.1; its config now has the present names of "
                "fields"
            )
    context = load_run_context(config, log=ignore if continues else log)
    METHODS[config.method].check_context(config, context)
    claim_workdir(workdir, config.to_dict())
    with only_process(workdir):
        check_data(workdir, data_digests(context))
        if command:
            record_command(workdir, command)
        phases = phase_list(config)
        grow(workdir, config, names=[phase.name for phase in phases], log=log)
        for phase in phases:
            run_phase(phase, workdir, context, config, log=log)
            if phase.name == last_phase:
                return
        for line in summary(workdir, [phase.name for phase in phases], context):
            log(line)


def _other_settings(directory: pathlib.Path, config: ConfigDict) -> str:
    """Return in words how a finished phase was set, where that differs; empty where it does not."""
    fields = flatten(config.to_dict())
    settings = read_done(directory).get(SETTINGS, {})
    others = [
        f"config.{name}={value}" for name, value in settings.items() if fields.get(name) != value
    ]
    return f" with {' and '.join(others)}; remove {directory} to do it again" if others else ""


def run_phase(
    phase: Phase,
    workdir: pathlib.Path,
    context: RunContext,
    config: ConfigDict,
    *,
    log: Callable[[str], None],
) -> None:
    """Run one phase, unless it is finished, and log its result."""
    directory = workdir / phase.name
    if is_complete(directory):
        log(f"{phase.name}: finished before{_other_settings(directory, config)}")
        return
    with counting_seconds(workdir, phase.name):
        phase.run(directory, context, config)
    log(f"{phase.name}: {describe(read_done(directory))}")
