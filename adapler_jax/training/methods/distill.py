"""A shallower model: some layers of the fine-tuned one, trained on from its soft labels.

teacher     logits of the fine-tuned model                       -> teacher.npz
distil      the student, from the teacher's layers and labels    -> model/, best epoch
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp

from adapler_jax import flops, model_flops
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import is_layer_subset
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.phases import (
    load_phase_model,
    save_phase,
    soft_train_step,
    train,
    validation_split,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.teacher import load_teacher, run_teacher
from adapler_jax.types import EncoderConfig, Params


def student_layers(layers, num_layers: int) -> tuple[int, ...]:
    """The layers that a student takes, from 0; every other one where none are given.

    Raises ValueError where they are not increasing numbers below num_layers.
    """
    layers = tuple(layers) or tuple(range(0, num_layers, 2))
    if not is_layer_subset(layers, lowest=0, num_layers=num_layers):
        raise ValueError(
            f"config.distill.layers is {layers}; expected increasing numbers from 0 to {num_layers - 1}"
        )
    return layers


def cut_layers(
    params: Params, config: EncoderConfig, layers: tuple[int, ...]
) -> tuple[Params, EncoderConfig]:
    """The model with these layers alone, and its sizes."""
    taken = jax.tree.map(lambda leaf: leaf[jnp.array(layers)], params["encoder"]["layers"])
    config = dataclasses.replace(config, num_layers=len(layers))
    return params | {"encoder": params["encoder"] | {"layers": taken}}, config


def run_distil(directory: pathlib.Path, setup: RunContext, config) -> None:
    """Trains the student; the model is the best epoch on validation."""
    options, workdir = config.distill, directory.parent
    layers = student_layers(options.layers, setup.encoder.num_layers)
    params, encoder = cut_layers(
        load_phase_model(workdir / "finetune").params, setup.encoder, layers
    )
    student = setup._replace(encoder=encoder)
    checkpoints = train(
        directory,
        student,
        keep_all(),
        params,
        options,
        make_step=soft_train_step(
            student,
            keep_all(),
            options,
            losses=LossConfig(distil_coef=options.distil_coef),
            slope_fn=lambda _: lambda step: None,
        ),
        extras=load_teacher(workdir, options),
        rank=lambda epoch, scores: scores["score"],
    )
    params, scores = checkpoints.restore_best(params), checkpoints.best_scores()
    checkpoints.close()
    lengths = setup.splits[validation_split(setup)].lengths
    dense, shallow = (
        model_flops.dense_flops(
            sizes, lengths, head=setup.head.flops(params["head"], sizes, lengths)
        )
        for sizes in (setup.encoder, encoder)
    )
    scores |= {"flops_speedup": flops.speedup(dense, shallow)}
    save_phase(
        directory, student, keep_all(), params, scores, layers=layers, num_epochs=options.num_epochs
    )


def phases_of(options) -> list:
    """(directory name, function) of the phases that the section asks for."""
    return [*([("teacher", run_teacher)] if options.distil_coef else []), ("distill", run_distil)]
