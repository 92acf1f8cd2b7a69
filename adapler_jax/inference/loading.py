"""A saved model ready to run, and rows through it: what the classes that users see share."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.lengths import bucket_for, default_lengths
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.tokenization.pieces import SIDES
from adapler_jax.data.tokenization.tokenizers import check_embedding_rows, load_core_and_side
from adapler_jax.inference.compute_dtype import choose_dtype
from adapler_jax.inference.drivers.buckets import bucket_sizes
from adapler_jax.inference.engine import Engine, make_engine, prepare_params_for
from adapler_jax.inference.model_kind import max_length_of
from adapler_jax.inference.processes import check_process
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.types import Batch, Params, Trace
from adapler_jax.weights.save import Saved, load_model


class LoadedModel(NamedTuple):
    """A model and what runs it."""

    pruner: Pruner
    run: Engine
    params: Params  # as the engine reads them
    tokenizer: Tokenizer
    max_length: int  # token slots
    lengths: tuple[int, ...]  # to which batches are padded
    dtype: str  # of the operands of the encoder's products
    tokenizer_side: str  # where tokenizer_config.json says that long texts are cut: right or left


def open_model(directory, *, compilation_cache: str) -> Saved:
    """A saved model, in a process that keeps compiled programs; compilation_cache: as in `use_compilation_cache`.

    Raises ValueError where it is damaged, RuntimeError where JAX cannot run in this process.
    """
    check_process()
    use_compilation_cache(compilation_cache)
    return load_model(directory)


def prepare_model(
    saved: Saved, *, buckets: Sequence[int] | None, dtype, driver: str, **options
) -> LoadedModel:
    """The engine of a saved model and what it is given; arguments as in `make_engine`, dtype as in `choose_dtype`.

    Raises ValueError where all buckets are shorter than the model's length.
    """
    pruner = pruner_of_saved(saved)
    max_length = max_length_of(saved)
    dtype = choose_dtype(dtype, saved, options.get("autotune_table"))
    if buckets is not None:
        bucket_sizes(buckets, max_length)
    tokenizer, tokenizer_side = load_core_and_side(saved.directory)
    check_embedding_rows(tokenizer, saved.config.vocab_size, saved.directory)
    # A program that leaves padding out by itself needs no second padded length, so it is compiled once.
    single = driver == "packed" or (driver != "masked" and bool(pruner.sites))
    return LoadedModel(
        pruner=pruner,
        run=make_engine(
            saved.config,
            pruner,
            buckets=buckets,
            dtype=dtype,
            driver=driver,
            head=saved.head,
            **options,
        ),
        params=prepare_params_for(driver, saved.params, saved.config, dtype),
        tokenizer=tokenizer,
        max_length=max_length,
        lengths=(max_length,) if single else default_lengths(max_length),
        dtype=np.dtype(dtype).name,
        tokenizer_side=tokenizer_side,
    )


def qa_settings(saved: Saved, *names: str) -> dict[str, int]:
    """Fields of `config.qa` that a model of questions was trained with. Raises ValueError where it was saved
    without them."""
    found = saved.extra.get("qa", {})
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{saved.directory} was saved without {', '.join(missing)} in extra['qa'], the settings of "
            "config.qa that its rows are made by; save it with them, as training phases do"
        )
    return {name: found[name] for name in names}


def side_of(saved: Saved, tokenizer_side: str) -> str:
    """Return where a saved model cuts texts that are too long, as in training: right, left or middle.

    It is the tokenizer's side where the model was saved without. Raises ValueError where it is another value.
    """
    side = saved.extra.get("truncation_side", tokenizer_side)
    if side not in SIDES:
        raise ValueError(
            f"{saved.directory}: extra['truncation_side'] in config.json is {side!r:.60}; expected {', '.join(SIDES)}"
        )
    return side


def check_batch_size(batch_size: int) -> None:
    """Raises TypeError where it is no whole number, ValueError below 1."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
        raise TypeError(f"batch_size is {batch_size!r:.60}; expected a whole number, at least 1")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")


def check_request(batch_size: int) -> None:
    """`check_batch_size`; raises RuntimeError too where JAX cannot run in this process."""
    check_process()
    check_batch_size(batch_size)


def padded_batch_size(num_texts: int, batch_size: int) -> int:
    """Rows of the batches that so many texts run in: the next power of two, at most batch_size."""
    return min(batch_size, 1 << (num_texts - 1).bit_length())


def warm_up(run: Callable, params: Params, lengths: Sequence[int], batch_size: int) -> float:
    """Compiles, or reads back, the programs of all batches of up to batch_size rows; returns the seconds.

    Raises ValueError on a batch_size below 1.
    """
    check_request(batch_size)
    start = time.perf_counter()
    row_counts = {padded_batch_size(num_rows, batch_size) for num_rows in range(1, batch_size + 1)}
    for num_rows, length in itertools.product(sorted(row_counts), lengths):
        batch = pad_batch([[0] * length], length=length, batch_size=num_rows)
        np.asarray(run(params, batch)[0])
    return time.perf_counter() - start


def sorted_batches(
    tokens: Sequence, segments: Sequence | None, *, lengths: Sequence[int], num_rows: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Rows of tokens, those of like length together, in batches of num_rows padded to the first of `lengths` that holds
    them: the numbers of a batch's rows, and the batch, filled up."""
    length_R = np.array([len(tokens[row]) for row in range(len(tokens))], np.int64)
    order_R = np.argsort(length_R, kind="stable")
    for start in range(0, len(order_R), num_rows):
        row_B = order_R[start : start + num_rows]
        batch = pad_batch(
            [tokens[row] for row in row_B],
            None if segments is None else [segments[row] for row in row_B],
            length=bucket_for(int(length_R[row_B].max()), lengths),
            batch_size=num_rows,
        )
        yield row_B, batch


def exit_layer(trace: Trace, batch: Batch, num_layers: int) -> np.ndarray:
    """The number of layers that ran on each token, int32 [B, L]."""
    if trace.survival_NBL is None:
        return np.full(batch.valid_BL.shape, num_layers, np.int32)
    return np.sum(np.asarray(trace.survival_NBL) > 0, axis=0, dtype=np.int32)
