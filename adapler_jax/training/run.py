"""A run: one workdir, one config, its phases in order. A second call goes on where the first stopped."""

import functools
import math
import pathlib
from collections.abc import Callable

from adapler_jax.data.sources.delimited import ignore
from adapler_jax.inference.engine import DRIVER_NAMES
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.pruning.adapler import THRESHOLD_RANGE
from adapler_jax.training import phases
from adapler_jax.training.balance import BALANCED
from adapler_jax.training.growth import grow
from adapler_jax.training.methods import distill as distil_phases
from adapler_jax.training.methods import powerbert as powerbert_phases
from adapler_jax.training.methods import trbert as trbert_phases
from adapler_jax.training.setup import data_digests, load_run_context
from adapler_jax.training.summary import describe, summary
from adapler_jax.training.workdir import (
    CONFIG_FILE,
    check_data,
    check_workdir_config,
    claim_workdir,
    counting_seconds,
    flatten,
    only_process,
    record_command,
)
from adapler_jax.types import COMPUTE_DTYPES

ALLOWED = {
    "method": ("finetune", "adapler", "powerbert", "trbert", "distill"),
    "compute_dtype": tuple(COMPUTE_DTYPES),
    "data.truncation_side": ("", "right", "left", "middle"),
    "class_weight": ("none", BALANCED),
    "adapler.init_from": ("finetuned", "pretrained"),
    "adapler.checkpoint_selection": ("last", "authors"),
    "adapler.slope_schedule": ("geometric", "epochs"),
    "inference.driver": DRIVER_NAMES,
}
COUNTS = (
    "num_epochs",
    "policy_num_epochs",
    "joint_num_epochs",
    "batch_size",
    "num_checkpoints",
    "n_best_size",
    "predictor_dim",
    "selector_dim",
    "doc_stride",
    "max_question_tokens",
    "max_answers",
    "max_answer_tokens",
    "max_option_tokens",
    "max_sentences",
    "max_candidates",
    "max_packed_questions",
)
MAX_SEED = 2**32 - 1  # of numpy's and JAX's generators
RANGES = {
    "seed": (0, MAX_SEED),
    "data.split_seed": (0, MAX_SEED),
    "finetune.clip_norm": (0.0, math.inf),
    "adapler.clip_norm": (0.0, math.inf),
    "adapler.distil_coef": (0.0, 1.0),
    "adapler.initial_threshold": THRESHOLD_RANGE,
    "adapler.length_target": (0.0, math.inf),
    "adapler.threshold_noise": (0.0, 5.0),
    "adapler.slope_start": (1.0, 1e9),  # a soft survival above the threshold is 1 at least then
    "adapler.slope_end": (1.0, 1e9),
    "finetune.early_stopping_patience": (0, math.inf),
    "powerbert.early_stopping_patience": (0, math.inf),
    "distill.early_stopping_patience": (0, math.inf),
    "adapler.warmup_ratio": (0.0, 1.0),
    "finetune.warmup_ratio": (0.0, 1.0),
    "powerbert.clip_norm": (0.0, math.inf),
    "powerbert.distil_coef": (0.0, 1.0),
    "powerbert.rank_l1_coef": (0.0, 1e3),
    "powerbert.warmup_ratio": (0.0, 1.0),
    "distill.clip_norm": (0.0, math.inf),
    "distill.distil_coef": (0.0, 1.0),
    "distill.warmup_ratio": (0.0, 1.0),
    "qa.num_validation_examples": (0, math.inf),
    "trbert.clip_norm": (0.0, math.inf),
    "trbert.distil_coef": (0.0, 1.0),
    "trbert.imitation_ratio": (0.0, 1.0),
    "trbert.policy_length_coef": (0.0, 1e3),
    "trbert.joint_length_coef": (0.0, 1e3),
    "trbert.init_num_epochs": (0, math.inf),
    "trbert.num_samples": (2, 1024),
    "trbert.sample_batch_size": (0, 1024),
    "trbert.warmup_ratio": (0.0, 1.0),
}


def check_config(config) -> None:
    """Raises ValueError on a value outside the choices of its field, and on counts that are none, before any work."""
    flat = flatten(config.to_dict())
    for name, choices in ALLOWED.items():
        if name in flat and flat[name] not in choices:
            raise ValueError(
                f"config.{name} is {flat[name]!r}; expected {' or '.join(filter(None, choices))}"
            )
    for name, value in flat.items():
        check_number(name, value)
    if config.method != "finetune" and config.method not in config:
        raise ValueError(
            f"config.method is {config.method!r}, but the config has no section of that name"
        )
    if config.method == "adapler":
        check_adapler(config)
    if (
        config.method == "powerbert"
        and config.powerbert.retention
        and config.powerbert.retention_from
    ):
        raise ValueError(
            "config.powerbert.retention and config.powerbert.retention_from are both given; give one"
        )


def check_number(name: str, value) -> None:
    """Raises ValueError where a field that is a count, a rate or has a range is outside of it."""
    lowest = 0 if name == "finetune.num_epochs" else 1  # 0: the model is fine-tuned already
    if name.rpartition(".")[2] in COUNTS and value < lowest:
        raise ValueError(f"config.{name} is {value}; expected {lowest} or more")
    if name.endswith("_dropout_prob") and not value < 1.0:
        raise ValueError(
            f"config.{name} is {value}; expected less than 1, negative for the checkpoint's"
        )
    if name.endswith("learning_rate") and not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"config.{name} is {value}; expected a finite number, 0 or more")
    if name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:
        raise ValueError(
            f"config.{name} is {value}; expected {RANGES[name][0]} to {RANGES[name][1]}"
        )


def check_adapler(config) -> None:
    """The same of the sections of AdapLeR's phases."""
    target = config.adapler.length_target
    if target and config.adapler.relative_length != (target <= 1.0):
        unit = (
            "a share, at most 1"
            if config.adapler.relative_length
            else "tokens summed over layers, more than 1"
        )
        raise ValueError(
            f"config.adapler.length_target is {target}; with relative_length={config.adapler.relative_length} it is "
            f"{unit}; length_coef has that unit too"
        )
    if config.saliency.num_checkpoints > config.finetune.num_checkpoints:
        raise ValueError(
            f"config.saliency.num_checkpoints is {config.saliency.num_checkpoints}, but only config.finetune.num_checkpoints = "
            f"{config.finetune.num_checkpoints} epochs are kept; raise it"
        )
    for speedup in config.adapt.target_speedups:
        is_number = isinstance(speedup, int | float) and not isinstance(speedup, bool)
        if not is_number or not (math.isfinite(speedup) and speedup >= 1.0):
            raise ValueError(
                f"config.adapt.target_speedups holds {speedup!r}; expected factors of 1 or more, as (1.5, 2.0)"
            )
    names = [adapt_name(speedup) for speedup in config.adapt.target_speedups]
    if len(set(names)) < len(names):
        raise ValueError(
            f"config.adapt.target_speedups names a phase twice: {', '.join(sorted(names))}"
        )


def phase_list(config) -> list[tuple[str, Callable]]:
    """(directory name, function of (directory, context, config)) of every phase that the config asks for."""
    plan = [("finetune", phases.run_finetune)]
    if config.method == "finetune":
        return plan
    if config.method == "powerbert":
        return plan + powerbert_phases.phases_of(config.powerbert)
    if config.method == "distill":
        return plan + distil_phases.phases_of(config.distill)
    if config.method == "trbert":
        return plan + trbert_phases.phases_of(config.trbert)
    plan += [("saliency", phases.run_saliency), ("adapler", phases.run_adapler)]
    for speedup in sorted(config.adapt.target_speedups):
        plan.append(
            (adapt_name(speedup), functools.partial(phases.run_calibration, speedup=speedup))
        )
    return plan


def adapt_name(speedup: float) -> str:
    """The directory of the phase that brings thresholds to a speedup."""
    return f"adapt-{speedup:g}x"


def run_all(
    config,
    workdir,
    *,
    log: Callable[[str], None] = print,
    last_phase: str | None = None,
    command: str = "",
) -> None:
    """Walks the phases; finished ones are not repeated.

    Args: config: a ConfigDict as in `configs/`. workdir: directory of the run. tell: receives
      notes, one line each.
    last_phase: name of the phase to stop after; None for all. command: one line that reports give
      as what trained it. Raises ValueError or OSError on what the user can mend,
      FloatingPointError where a loss is not finite.
    """
    workdir = pathlib.Path(workdir).expanduser()
    check_config(config)
    plan = phase_list(config)
    check_workdir_config(
        workdir, config.to_dict()
    )  # before the data and the weights, which take time
    use_compilation_cache(config.inference.compilation_cache, log=log)
    continues = (workdir / CONFIG_FILE).exists()
    if continues:  # the first call gave the notes of checkpoint and data
        log(f"continues the run in {workdir}")
    context = load_run_context(config, log=ignore if continues else log)
    if config.method == "powerbert":
        powerbert_phases.given_retention(config.powerbert, context)
    if config.method == "distill":
        distil_phases.student_layers(config.distill.layers, context.encoder.num_layers)
    if config.method == "trbert":
        trbert_phases.check_fit(config.trbert, context)
    claim_workdir(workdir, config.to_dict())
    with only_process(workdir):
        check_data(workdir, data_digests(context))
        if command:
            record_command(workdir, command)
        grow(workdir, config, names=[name for name, _ in plan], log=log)
        for name, run in plan:
            directory = workdir / name
            if phases.is_complete(directory):
                log(f"{name}: finished before")
            else:
                with counting_seconds(workdir, name):
                    run(directory, context, config)
                log(f"{name}: {describe(phases.read_done(directory))}")
            if name == last_phase:
                return
        for line in summary(workdir, [name for name, _ in plan], context):
            log(line)
