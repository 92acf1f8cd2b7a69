"""Save the fine-tuned model's soft labels of the training examples, for later phases."""

import pathlib

import jax
from ml_collections import ConfigDict

from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.forward import forward
from adapler_jax.pruning import keep_all
from adapler_jax.training.example_arrays import empty_logits, load_arrays, put_logits, save_arrays
from adapler_jax.training.metrics_log import track
from adapler_jax.training.phases import Phase, load_phase_model, mark_complete
from adapler_jax.training.setup import RunContext
from adapler_jax.types import PADDING_EXAMPLE_ID

TEACHER_FILE = "teacher.npz"


def run_teacher(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Save the fine-tuned model's logits on every training example."""
    directory.mkdir(parents=True, exist_ok=True)
    params = load_phase_model(directory.parent / "finetune").params
    num_examples = context.num_train_examples
    logits = empty_logits(context.logits_shape, num_examples)

    @jax.jit
    def run(params, batch):
        found, _ = forward(
            params,
            context.encoder,
            keep_all(),
            batch,
            slope=None,
            dtype=context.dtype,
            head=context.head,
        )
        return found

    for batch in track(context.eval_batches("train", config.finetune.batch_size), directory.name):
        real_B = batch.example_id_B != PADDING_EXAMPLE_ID
        put_logits(logits, batch.example_id_B[real_B], run(params, batch), real_B)
    save_arrays(directory / TEACHER_FILE, teacher_logits=logits)
    mark_complete(directory, {"num_examples": num_examples})


def teacher_phases(options: ConfigDict) -> list[Phase]:
    """Return the teacher's phase; none where the section has no coefficient for soft labels."""
    return [Phase("teacher", run_teacher)] if options.distil_coef else []


def load_teacher(workdir: pathlib.Path, options: ConfigDict) -> PerExampleArrays | None:
    """Return the saved logits; None where the section has no coefficient for soft labels."""
    return load_arrays(workdir / "teacher" / TEACHER_FILE) if options.distil_coef else None
