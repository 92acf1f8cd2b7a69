"""Load the models and texts that `benchmarks.peers` compares: of a finished run, or random."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapler_jax.data.batching.lengths import batch_lengths
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.data.tokenization.tokens import tokenize
from adapler_jax.inference.autotune.workloads import check_names, random_params
from adapler_jax.training.finished import finished_phases, read_run
from adapler_jax.training.setup import run_buckets
from adapler_jax.training.task_data import load_data, token_cache
from adapler_jax.weights.save import Saved, load_model, save_model
from benchmarks.models import MODELS

NUM_RANDOM_TEXTS = 1024


class Run(NamedTuple):
    """Models, texts and settings that are measured: of a finished run, or random."""

    task: str
    seed: int
    directories: dict[str, pathlib.Path]  # of its models, the dense one first
    models: dict[str, Saved]
    metric: str | None  # None: nothing to score
    test: Tokenized
    train: Tokenized
    lengths: tuple[int, ...]  # to which plain BERT's batches are padded
    buckets: tuple[int, ...] | None  # None: the library's


def chosen_models(workdir: pathlib.Path, names: Sequence[str]) -> dict[str, pathlib.Path]:
    """Return directories of models by name, the dense model first; all of the run without names.

    Args:
      names: models of the run, or directories of saved models.

    Raises:
      ValueError: a name is neither.
    """
    there = {name: phase / "model" for name, phase in finished_phases(workdir).items()}
    chosen = {"dense": there["dense"]}
    for name in names or there:
        directory = there.get(name, pathlib.Path(name).expanduser())
        if not directory.is_dir():
            raise ValueError(
                f"no model {name!r}: the run has {', '.join(there)}, and there is no such directory"
            )
        chosen[name] = directory
    return chosen


def load_run(workdir, names: Sequence[str]) -> Run:
    """Load a workdir: the named models, its test and training texts as tokens."""
    workdir = pathlib.Path(workdir).expanduser()
    config = read_run(workdir)
    directories = chosen_models(workdir, names)
    models = {name: load_model(directory) for name, directory in directories.items()}
    dataset, tokenizer = load_data(config), load_tokenizer(str(directories["dense"]))
    max_length = models["dense"].max_length
    test, train = (
        tokenize(
            dataset.split(split), tokenizer, max_length=max_length, cache_dir=token_cache(config)
        )
        for split in (dataset.eval_splits[0], "train")
    )
    return Run(
        task=config.task,
        seed=config.seed,
        directories=directories,
        models=models,
        metric=dataset.task.metric,
        test=test,
        train=train,
        lengths=batch_lengths(config.data.bucket_lengths, max_length),
        buckets=run_buckets(config),
    )


def random_run(shape: str, length: int, scratch: pathlib.Path) -> Run:
    """Return plain BERT of a shape on random weights, with random texts that fill the length.

    The model is saved in `scratch`.

    Raises:
      ValueError: the shape is unknown, or has too few positions for the length.
    """
    check_names([shape], MODELS, "shape")
    config = MODELS[shape]
    if not 2 <= length <= config.num_positions:
        raise ValueError(f"--length={length}; {shape} takes 2 to {config.num_positions} tokens")
    params = random_params(config) | {"pruner": {}}
    directory = save_model(scratch / shape, params, config, max_length=length)
    texts = random_texts(config.vocab_size, length)
    return Run(
        task=f"random {shape}",
        seed=0,
        directories={"dense": directory},
        models={"dense": load_model(directory)},
        metric=None,
        test=texts,
        train=texts,
        lengths=(length,),
        buckets=None,
    )


def random_texts(vocab_size: int, length: int) -> Tokenized:
    """Return random texts of one length."""
    token_EL = (
        np.random.default_rng(0)
        .integers(1, vocab_size, (NUM_RANDOM_TEXTS, length))
        .astype(np.int32)
    )
    offsets, rows = (
        np.arange(0, token_EL.size + 1, length),
        np.arange(NUM_RANDOM_TEXTS, dtype=np.int32),
    )
    return Tokenized(
        tokens=Ragged(token_EL.ravel(), offsets),
        segments=Ragged(np.zeros(token_EL.size, np.int8), offsets),
        labels=np.zeros_like(rows),
        example_ids=rows,
    )
