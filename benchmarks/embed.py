r"""Compress a model of vectors by its own vectors, and compare both on sentences held back.

    python -m benchmarks.embed --data=FILE --test=FILE --task=sst2 --model=DIR --runs=runs/embed \
        --json=benchmarks/results/embed-sst2.json

Both files have texts in lines or in a column. Texts of the test are left out of the training. Rows
have the columns `method`, `flops_speedup` on true tokens, `spearman_to_full`, the correlation of
both models' cosine similarities over all pairs of test texts, its mean and standard error over
groups of random pairs, and `mean_cosine` of a vector with the full model's. `full` is the given
model.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.evaluation.passes import run_saved
from adapler_jax.evaluation.task_texts import batches_and_rows
from adapler_jax.inference.embedder import Embedder
from adapler_jax.io.records import print_table
from adapler_jax.io.terminal import print_note
from adapler_jax.metrics.classification import spearman
from adapler_jax.metrics.differences import mean_difference_error
from adapler_jax.metrics.similarity import cosines, similarity_agreement, unit_vectors
from adapler_jax.serving.texts import read_texts
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_steps import CompressOptions
from adapler_jax.training.compress_vectors import as_texts
from adapler_jax.weights.save import load_model
from benchmarks.methods import parse_changes
from benchmarks.records import Record
from benchmarks.rerank import find_models


def vectors_of(directory, texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """Return a saved model's vectors in the order of the texts, and its FLOPs speedup."""
    saved, embedder = load_model(directory), Embedder.load(directory, driver="packed")
    found = batches_and_rows(embedder, texts, (embedder.max_length,))
    vectors, speedup = run_saved(saved, [batch for _, batch in found], driver="packed")
    vector_EI = np.zeros(vectors.shape, np.float32)
    vector_EI[np.concatenate([row_B for row_B, _ in found])] = vectors
    return vector_EI, speedup


def all_pairs_spearman(vector_EI: np.ndarray, full_EI: np.ndarray) -> float:
    """Return Spearman's correlation of both models' similarities of all pairs of texts."""
    pairs = np.triu_indices(len(full_EI), k=1)
    found, full = (
        (unit_EI @ unit_EI.T)[pairs] for unit_EI in map(unit_vectors, (vector_EI, full_EI))
    )
    return spearman(found, full)


def measure_models(
    models: Mapping[str, pathlib.Path], texts: Sequence[str], *, task: str, seed: int
) -> list[dict]:
    """Return a row for each model on texts that none was made from; the first is the full one."""
    rows: list[dict] = []
    full_EI = None
    for name, directory in models.items():
        vector_EI, speedup = vectors_of(directory, texts)
        full_EI = vector_EI if full_EI is None else full_EI
        agreement_G = similarity_agreement(vector_EI, full_EI)
        rows.append(
            {
                "task": task,
                "method": name,
                "seed": seed,
                "flops_speedup": speedup,
                "spearman_to_full": all_pairs_spearman(vector_EI, full_EI),
                "spearman_of_groups": float(agreement_G.mean()),
                "spearman_se": mean_difference_error(agreement_G),
                "mean_cosine": float(np.mean(cosines(vector_EI, full_EI))),
                "num_texts": len(texts),
            }
        )
        print_table(rows[-1:])
    return rows


def run_seed(options, changes: dict, seed: int, texts: dict[str, list[str]]) -> list[dict]:
    """Compress the model, and return the rows of all models."""
    out = pathlib.Path(options.runs) / f"seed{seed}"
    speedups = tuple(map(float, options.speedups))
    for speedup in speedups:
        asked = CompressOptions(
            speedup,
            train=options.train,
            max_length=options.max_length,
            pooling=options.pooling,
            changes=changes | {"seed": seed},
        )
        compress(options.model, texts["train"], out, options=asked, log=print_note)
    models = {"full": out / "full"} | find_models(out, speedups)
    return measure_models(models, texts["test"], task=options.task, seed=seed)


def load_texts(options) -> dict[str, list[str]]:
    """Return the texts of the training and the test; no text is in both."""
    columns = [options.column] if options.column else []
    found = {
        name: as_texts(read_texts(None, path, columns=columns, log=print_note).texts)
        for name, path in (("train", options.data), ("test", options.test))
    }
    test = found["test"][: options.num_test]
    held_back = set(found["test"])
    train = [text for text in found["train"] if text not in held_back]
    return {"train": train[: options.num_train or None], "test": test}


def main(options):
    """Measure the seeds that the record lacks, and print its rows."""
    changes = parse_changes(options.set)
    texts = load_texts(options)
    fields = {"task": options.task, "num_train": len(texts["train"])} | changes
    fields |= {"model": options.model, "max_length": options.max_length}
    record = Record(options.json, fields, module="benchmarks.embed")
    there = {row["seed"] for row in record.rows}
    for seed in sorted(set(map(int, options.seeds)) - there):
        record.add(run_seed(options, changes, seed, texts))
    print_table(record.rows)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "file of texts to train on")
    flags.DEFINE_string("test", None, "file of texts of the test")
    flags.DEFINE_string("column", "", "column of a table; none for text lines")
    flags.DEFINE_string("task", None, "name of the texts in the record")
    flags.DEFINE_string("model", None, "folder of sentence-transformers, or a saved model")
    flags.DEFINE_string("pooling", None, "of a plain encoder: mean or cls")
    flags.DEFINE_multi_string("set", [], "FIELD=VALUE of the training; may be given again")
    flags.DEFINE_string("runs", None, "folder of the work")
    flags.DEFINE_list("seeds", ["0"], "training seeds; the texts stay the same")
    flags.DEFINE_list("speedups", ["2"], "FLOPs speedups to compress to")
    flags.DEFINE_integer("max_length", 0, "tokens of a text; 0: of the longest text")
    flags.DEFINE_integer("num_train", 0, "texts to train on; 0: all")
    flags.DEFINE_integer("num_test", 1000, "texts of the test at most")
    flags.DEFINE_bool("train", True, "train AdapLeR too, not only the methods without training")
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.mark_flags_as_required(["data", "test", "task", "model", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
