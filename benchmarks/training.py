"""Time training steps of every phase, with their memory, on random weights of the MiniLM-L6 shape.

    python -m benchmarks.training [--torch] [--quick] [--shapes 32x32,16x256]
        [--steps "adapler;trbert"] [--json PATH]

The steps are fine-tuning, also with layers computed twice to save memory (`remat_layers`);
saliency, a forward and a backward pass without an update; AdapLeR, and its calibration to a
speedup; PoWER-BERT's search and training; TR-BERT's policy with eight samples a text, alone and
with the encoder. All steps and dtypes of a shape take turns in one run, by the default recipes of
the presets. Compilation is apart. AdapLeR trains without attention dropout, as its recipe does;
another row has the dropout, to compare equal steps. Ratios are to fine-tuning with the same
operands. Memory is what XLA plans for the program: arguments and temporaries. With --torch,
transformers and AdamW fine-tune the same model in processes of their own, in float32 and bfloat16
autocast. `torch_ratio` is to the faster of the two.
"""

import argparse
import contextlib

import numpy as np

from adapler_jax.inference.autotune.workloads import check_names, parse_case
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results
from adapler_jax.presets import sections
from adapler_jax.training import from_config
from adapler_jax.types import COMPUTE_DTYPES, Batch, EncoderConfig
from benchmarks.models import MINILM, QUICK
from benchmarks.peer_systems import REQUIREMENTS, missing_packages, peer_versions
from benchmarks.remote import Remote
from benchmarks.training_steps import STEPS, STEPS_PER_EPOCH, Section, measure, random_batch
from benchmarks.training_torch import TorchTraining
from benchmarks.turns import use_cores

SHAPES, QUICK_SHAPES = "32x32,16x256", "8x16"  # batch x length
TORCH = "torch finetune"


def torch_training(config: EncoderConfig, batch: Batch, dtype: str, num_threads: int) -> Remote:
    """Return torch's fine-tuning of the model on the batch, in a process of its own."""
    options = Section(sections.finetune_section())
    inputs = {
        "input_ids": batch.token_BL,
        "attention_mask": batch.valid_BL,
        "token_type_ids": batch.segment_BL,
        "labels": batch.label_B,
    }
    return Remote(
        TorchTraining,
        from_config.with_dropout(config, options),
        from_config.make_optimizer_config(options),
        {name: array.astype(np.int64) for name, array in inputs.items()},
        dtype=dtype,
        num_steps=STEPS_PER_EPOCH * options.num_epochs,
        num_threads=num_threads,
    )


def measure_with_torch(
    config: EncoderConfig, batch_size: int, length: int, num_rounds: int, **options
) -> list[dict]:
    """Return the rows of one shape with torch's; `torch_ratio` is to torch's faster row."""
    batch, num_threads = random_batch(config, batch_size, length), use_cores(0)
    with contextlib.ExitStack() as stack:
        others = {}
        for dtype in COMPUTE_DTYPES:
            remote = stack.enter_context(torch_training(config, batch, dtype, num_threads))
            others[dtype, TORCH] = remote.turn
        rows = measure(config, batch_size, length, num_rounds, others=others, **options)
    best = min(row["wall_ms"] for row in rows if row["method"] == TORCH)
    return [row | {"torch_ratio": row["wall_ms"] / best} for row in rows]


def main(arguments=None) -> list[dict]:
    """Measure, print and return the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small encoder and batch, two rounds"
    )
    parser.add_argument("--torch", action="store_true", help="fine-tuning in torch too")
    parser.add_argument("--shapes", default=SHAPES, help="batch x length")
    parser.add_argument(
        "--steps", default=";".join(STEPS), help="steps besides finetune, separated by ;"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.torch and (missing := missing_packages("torch")):
        parser.error(f"--torch needs {', '.join(missing)}; pip install -r {REQUIREMENTS}")
    if options.quick:
        options.shapes, options.rounds = QUICK_SHAPES, 2
    config, names = QUICK if options.quick else MINILM, options.steps.split(";")
    try:
        check_names(names, STEPS, "step")
        shapes = [parse_case(case) for case in options.shapes.split(",")]
    except ValueError as error:
        parser.error(str(error))
    run = measure_with_torch if options.torch else measure
    rows = [row for shape in shapes for row in run(config, *shape, options.rounds, names=names)]
    write_results(
        rows,
        command=module_command("benchmarks.training"),
        path=options.json,
        more_versions=peer_versions() if options.torch else None,
    )
    return rows


if __name__ == "__main__":
    main()
