"""Train a shallower model: some layers of the fine-tuned one, trained on from its soft labels.

teacher     logits of the fine-tuned model                              -> teacher.npz
distill     the student, from the teacher's layers and soft labels      -> model/, best epoch
"""

import math
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from adapler_jax import flops, model_flops
from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import config_of_layers
from adapler_jax.presets.sections import distill_section
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import is_layer_subset
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import (
    Phase,
    best_epoch_params,
    load_phase_model,
    rank_by_score,
    save_phase,
    soft_train_step,
    train,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.teacher import load_teacher, teacher_phases
from adapler_jax.training.validation import validation_split
from adapler_jax.types import EncoderConfig, Params


def student_layers(layers, num_layers: int) -> tuple[int, ...]:
    """Return the teacher's layers that a student has, from 0; every other one by default.

    Raises:
      ValueError: they are not increasing numbers below num_layers.
    """
    layers = tuple(layers) or tuple(range(0, num_layers, 2))
    if not is_layer_subset(layers, lowest=0, num_layers=num_layers):
        raise ValueError(
            f"config.distill.layers is {layers}; "
            f"expected increasing numbers from 0 to {num_layers - 1}"
        )
    return layers


def spread_layers(num_kept: int, num_layers: int) -> tuple[int, ...]:
    """Return num_kept of num_layers layers, the first and the last of them, at even distances.

    Raises:
      ValueError: num_kept is not from 1 to one less than num_layers.
    """
    if not 1 <= num_kept < num_layers:
        raise ValueError(
            f"a student of {num_kept} layers needs a model of more; this one has {num_layers}"
        )
    return tuple(np.linspace(0, num_layers - 1, num_kept).round().astype(int).tolist())


def cut_layers(
    params: Params, config: EncoderConfig, layers: tuple[int, ...]
) -> tuple[Params, EncoderConfig]:
    """Return the model with these layers alone, and its sizes."""
    kept = jax.tree.map(lambda leaf: leaf[jnp.array(layers)], params["encoder"]["layers"])
    config = config_of_layers(encoder_of(config), config, layers)
    return params | {"encoder": params["encoder"] | {"layers": kept}}, config


def with_student(
    workdir: pathlib.Path, context: RunContext, config: ConfigDict
) -> tuple[RunContext, Params | None]:
    """Return the context of phases that prune a student's tokens, and where the student starts.

    It starts as the phase `distill` left it, or with 0 epochs of it as the teacher's layers. A
    config without a student has the context as it is, and None.
    """
    if "distill" not in config:
        return context, None
    if not config.distill.num_epochs:
        return untrained_student(workdir, context, config)
    saved = load_phase_model(workdir / "distill")
    return context._replace(encoder=saved.config, full_encoder=context.encoder), saved.params


def untrained_student(
    workdir: pathlib.Path, context: RunContext, config: ConfigDict
) -> tuple[RunContext, Params]:
    """Return the context of the student, and its weights: layers of the fine-tuned model."""
    layers = student_layers(config.distill.layers, context.encoder.num_layers)
    teacher = load_phase_model(workdir / "finetune").params
    params, encoder = cut_layers(teacher, context.encoder, layers)
    return context._replace(encoder=encoder, full_encoder=context.encoder), params


def run_student(
    directory: pathlib.Path,
    context: RunContext,
    config: ConfigDict,
    *,
    load_extras: Callable[[pathlib.Path, ConfigDict], PerExampleArrays | None] = load_teacher,
) -> None:
    """Train the student. The model is the best epoch on validation.

    Args:
      directory: of the phase.
      context: of the full model.
      config: whose section `distill` counts.
      load_extras: a function (workdir, section) -> arrays with the soft labels.
    """
    options, workdir = config.distill, directory.parent
    student, params = untrained_student(workdir, context, config)
    pruner = keep_all()
    losses = LossConfig(distil_coef=options.distil_coef)
    checkpoints = train(
        directory,
        student,
        pruner,
        params,
        options,
        make_step=soft_train_step(student, pruner, options, losses=losses),
        extras=load_extras(workdir, options),
        rank=rank_by_score,
    )
    params, scores = best_epoch_params(checkpoints, params)
    scores["flops_speedup"] = _student_speedup(params, context, student.encoder)
    layers = student_layers(options.layers, context.encoder.num_layers)
    record = {"layers": layers, "num_epochs": options.num_epochs}
    save_phase(directory, student, pruner, params, scores, record=record)


def _student_speedup(params: Params, context: RunContext, student: EncoderConfig) -> float:
    """Return the FLOPs speedup of the student over the teacher on the validation split."""
    lengths = context.splits[validation_split(context)].lengths

    def dense_flops(sizes):
        options = context.head.flops_options(params, sizes, lengths)
        return model_flops.dense_flops(sizes, lengths, **options)

    return flops.speedup(dense_flops(context.encoder), dense_flops(student))


def phases(config: ConfigDict) -> list[Phase]:
    """Return the phases after fine-tuning."""
    return [*teacher_phases(config.distill), Phase("distill", run_student)]


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where the student has no training."""
    if not config.distill.num_epochs:
        raise ValueError("config.distill.num_epochs is 0; expected at least 1")


def check_context(config: ConfigDict, context: RunContext) -> None:
    """Raise ValueError where the student's layers do not fit the encoder."""
    encoder = context.encoder
    layers = student_layers(config.distill.layers, encoder.num_layers)
    config_of_layers(encoder_of(encoder), encoder, layers)


METHOD = Method(
    title="fewer layers, distilled",
    # Epochs of 0: where its tokens are dropped, that training starts from the teacher's layers.
    sections={"distill": Section(distill_section(), ranges={"num_epochs": (0, math.inf)})},
    phases=phases,
    tradeoff_fields=("distill.layers",),
    drops_tokens=False,
    check_config=check_config,
    check_context=check_context,
)
