"""The phase that asks the fine-tuned model for its soft labels, and what later phases read of it."""

import pathlib

import jax

from adapler_jax import forward as full_width
from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.pruning import keep_all
from adapler_jax.training.example_arrays import empty_logits, load_arrays, put_logits, save_arrays
from adapler_jax.training.metrics_log import track
from adapler_jax.training.phases import load_phase_model, mark_complete
from adapler_jax.training.setup import RunContext
from adapler_jax.types import PADDING_EXAMPLE_ID

TEACHER_FILE = "teacher.npz"


def run_teacher(directory: pathlib.Path, context: RunContext, config) -> None:
    """Logits of the fine-tuned model on every training example."""
    directory.mkdir(parents=True, exist_ok=True)
    params = load_phase_model(directory.parent / "finetune").params
    num_rows = int(context.splits["train"].example_ids.max()) + 1
    logits = empty_logits(context.logits_shape, num_rows)

    @jax.jit
    def run(params, batch):
        return full_width.forward(
            params,
            context.encoder,
            keep_all(),
            batch,
            slope=None,
            dtype=context.dtype,
            head=context.head,
        )[0]

    for batch in track(context.eval_batches("train", config.finetune.batch_size), directory.name):
        real_B = batch.example_id_B != PADDING_EXAMPLE_ID
        put_logits(logits, batch.example_id_B[real_B], run(params, batch), real_B)
    save_arrays(directory / TEACHER_FILE, teacher_logits=logits)
    mark_complete(directory, {"num_examples": num_rows})


def load_teacher(workdir: pathlib.Path, options) -> PerExampleArrays | None:
    """What the phase left; None where `options` ask for no distillation."""
    return load_arrays(workdir / "teacher" / TEACHER_FILE) if options.distil_coef else None
