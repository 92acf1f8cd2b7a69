"""Load the models and texts that `benchmarks.peers` compares: of a finished run, or random."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapler_jax.data.batching.lengths import batch_lengths
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.data.tokenization.tokens import tokenize
from adapler_jax.inference.autotune.workloads import (
    adapler_schedule,
    check_names,
    kept_fractions,
    random_params,
)
from adapler_jax.training.finished import finished_phases, read_run
from adapler_jax.training.setup import run_buckets
from adapler_jax.training.text_tasks import load_data, token_cache
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import Saved, load_model, save_model
from benchmarks.models import MODELS

NUM_RANDOM_TEXTS = 1024
NUM_SCHEDULED_TEXTS = 16  # that set the thresholds of a random model


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
        metric=None if dataset.task.has_numbers else dataset.task.metric,
        test=test,
        train=train,
        lengths=batch_lengths(config.data.bucket_lengths, max_length),
        buckets=run_buckets(config),
    )


def random_run(
    shape: str,
    length: int,
    scratch: pathlib.Path,
    *,
    speedup: float | None = None,
    is_mixed: bool = False,
) -> Run:
    """Return plain BERT of a shape on random weights, with random texts.

    The models are saved in `scratch`.

    Args:
      shape: name of the sizes.
      length: tokens of the longest texts.
      scratch: folder of the models.
      speedup: FLOPs speedup of an AdapLeR model on these texts; None for plain BERT alone.
      is_mixed: whether texts have half the length to all of it; else all have the length.

    Raises:
      ValueError: the shape is unknown, or has too few positions for the length.
    """
    check_names([shape], MODELS, "shape")
    config = MODELS[shape]
    if not 2 <= length <= config.num_positions:
        raise ValueError(f"--length={length}; {shape} takes 2 to {config.num_positions} tokens")
    texts = random_texts(config.vocab_size, length, shortest=length // 2 if is_mixed else length)
    params = random_params(config) | {"pruner": {}}
    directories = {"dense": save_model(scratch / shape, params, config, max_length=length)}
    if speedup is not None:
        name = f"adapler-{speedup:g}x"
        directories[name] = save_scheduled(scratch / name, config, texts, speedup)
    return Run(
        task=f"random {shape}",
        seed=0,
        directories=directories,
        models={name: load_model(directory) for name, directory in directories.items()},
        metric=None,
        test=texts,
        train=texts,
        lengths=(length,),
        buckets=None,
    )


def save_scheduled(
    directory: pathlib.Path, config: EncoderConfig, texts: Tokenized, speedup: float
) -> pathlib.Path:
    """Save an AdapLeR model of random weights whose thresholds drop tokens to a speedup."""
    schedule, length = adapler_schedule(config), int(texts.lengths.max())
    rows = range(NUM_SCHEDULED_TEXTS)
    batch = pad_batch(
        [texts.tokens[row] for row in rows], length=length, batch_size=NUM_SCHEDULED_TEXTS
    )
    mean_length = int(texts.lengths.mean())
    fraction_N = kept_fractions(config, mean_length, speedup, schedule=schedule)
    params = schedule.follow(random_params(config, schedule.pruner), config, batch, fraction_N)
    return save_model(directory, params, config, pruner_name="adapler", max_length=length)


def random_texts(vocab_size: int, length: int, *, shortest: int) -> Tokenized:
    """Return random texts of `shortest` to `length` tokens; the first has `length`."""
    rng = np.random.default_rng(0)
    length_E = rng.integers(shortest, length + 1, NUM_RANDOM_TEXTS)
    length_E[0] = length
    offsets, rows = np.concatenate([[0], np.cumsum(length_E)]), np.arange(NUM_RANDOM_TEXTS)
    tokens = rng.integers(1, vocab_size, offsets[-1]).astype(np.int32)
    return Tokenized(
        tokens=Ragged(tokens, offsets),
        segments=Ragged(np.zeros(len(tokens), np.int8), offsets),
        labels=np.zeros_like(rows, np.int32),
        example_ids=rows.astype(np.int32),
    )
