"""Divide published speedups into padding left out and tokens dropped.

    python -m benchmarks.published --json=benchmarks/results/published.json

A speedup over BERT on texts padded to a fixed length has two parts. One is padding that is not
computed, which needs no method: `from_padding`, dense BERT-base at the fixed length over dense
BERT-base at the average length. The other is tokens dropped: `from_dropping`. Every row has both,
their product `together`, and the published speedup. The inputs are public:

    PoWER-BERT    milliseconds in its README: BERT and PoWER-BERT on a K80, batches of 128, both
                  padded to `max_length`. `from_dropping` is what padding leaves of the speedup
    ToP           in its README the reduction of FLOPs, and the sparsity, the share of true tokens
                  that training is asked to drop. `from_dropping` is 1 / (1 - sparsity)
    lengths       of the development sets in tokens: Kwon et al., "A Fast Post-Training Pruning
                  Framework for Transformers", NeurIPS 2022, dataset/glue.py

PoWER-BERT's program has the maximum lengths; ToP names none, so its rows take these. All texts of a
task count with their average length, so a row is right to a few percent. RTE is left out: its
average is of texts cut at 128 tokens, and PoWER-BERT pads them to 256.
"""

import numpy as np
from absl import flags

from adapler_jax import flops, model_flops
from adapler_jax.cli.console import run_command
from adapler_jax.inference.autotune.workloads import SHAPES
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results

BERT_BASE = SHAPES["base"]
AVERAGE_LENGTH = {
    "CoLA": 11.67,
    "SST-2": 25.16,
    "QQP": 30.55,
    "STS-B": 31.47,
    "MNLI": 39.05,
    "QNLI": 50.97,
    "MRPC": 53.24,
}
MAX_LENGTH = {
    "CoLA": 64,
    "SST-2": 64,
    "STS-B": 64,
    "QQP": 128,
    "MNLI": 128,
    "QNLI": 128,
    "MRPC": 128,
}
POWERBERT_MS = {  # of BERT, of PoWER-BERT; MNLI is its matched part
    "CoLA": (898, 201),
    "SST-2": (905, 374),
    "QQP": (1833, 405),
    "STS-B": (881, 448),
    "MNLI": (1867, 725),
    "QNLI": (1848, 916),
    "MRPC": (1798, 674),
}
TOP = {  # reduction of FLOPs, sparsity
    "CoLA": (10.39, 0.43),
    "SST-2": (4.66, 0.40),
    "QQP": (12.41, 0.65),
    "STS-B": (7.20, 0.70),
    "MNLI": (6.68, 0.50),
    "QNLI": (6.16, 0.58),
    "MRPC": (7.71, 0.67),
}


def padding_speedup(max_length: int, average_length: float) -> float:
    """Return dense BERT-base at the maximum length over the same at the average length, FLOPs."""
    head = flops.pooled_flops(BERT_BASE, 2)
    padded, true = (
        model_flops.dense_flops(BERT_BASE, np.float64(length), head=head)
        for length in (max_length, average_length)
    )
    return float(padded / true)


def make_rows() -> list[dict]:
    """Return a row for each paper and task."""
    rows = []
    for task, (bert, faster) in POWERBERT_MS.items():
        padding, published = _padding(task), bert / faster
        rows.append(_row("PoWER-BERT", task, published, padding, dropping=published / padding))
    for task, (published, sparsity) in TOP.items():
        rows.append(_row("ToP", task, published, _padding(task), dropping=1.0 / (1.0 - sparsity)))
    return rows


def _padding(task: str) -> float:
    """Return the speedup from padding alone of a task."""
    return padding_speedup(MAX_LENGTH[task], AVERAGE_LENGTH[task])


def _row(paper: str, task: str, published: float, padding: float, *, dropping: float) -> dict:
    """Return one row."""
    return {
        "paper": paper,
        "task": task,
        "max_length": MAX_LENGTH[task],
        "average_length": AVERAGE_LENGTH[task],
        "published": published,
        "from_padding": padding,
        "from_dropping": dropping,
        "together": padding * dropping,
    }


def main(options) -> None:
    """Print and write the rows."""
    write_results(make_rows(), command=module_command("benchmarks.published"), path=options.json)


if __name__ == "__main__":
    flags.DEFINE_string("json", None, "path of the record")
    run_command(lambda: main(flags.FLAGS))
