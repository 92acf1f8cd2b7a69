"""Load a saved model and run rows of tokens through it: shared by the classes that users see.

Shape letters:

    M rows of a call
"""

import functools
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from tokenizers import Tokenizer

from adapler_jax.data.batching.lengths import bucket_for, default_lengths
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.tokenization.pieces import SIDES
from adapler_jax.data.tokenization.tokenizers import check_embedding_rows, read_tokenizer
from adapler_jax.heads import Head
from adapler_jax.inference.compute_dtype import choose_dtype
from adapler_jax.inference.drivers.buckets import bucket_sizes
from adapler_jax.inference.engine import AUTO, Engine, TableSource, make_engine, prepare_params_for
from adapler_jax.inference.model_kind import max_length_of
from adapler_jax.inference.processes import check_process, origin_of
from adapler_jax.inference.texts import check_batch_size
from adapler_jax.io.atomic_directories import recover
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.metrics.classification import THRESHOLD, check_threshold
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.types import Batch, Params, Trace
from adapler_jax.weights.folders import load_folder
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.save import CONFIG_FILE, Saved


class LoadedModel(NamedTuple):
    """A saved model with its engine."""

    pruner: Pruner
    run: Engine
    params: Params  # in the layout that the engine takes
    tokenizer: Tokenizer
    max_length: int  # token slots
    lengths: tuple[int, ...]  # padded lengths of batches
    dtype: str  # of the operands of the encoder's products
    tokenizer_side: str  # that loses the tokens of long texts: right or left
    unknown_token: str | None  # of the tokenizer


def with_origin(load: Callable) -> Callable:
    """Wrap a class's `load`: it takes names on the hub, and its models keep their origin.

    The origin is the local directory and the arguments of the load.
    """

    @functools.wraps(load)
    def load_with_origin(cls, directory, **options):
        # The load would consume an iterator, and the origin needs its values too.
        options = {
            name: tuple(value) if isinstance(value, Iterator) else value
            for name, value in options.items()
        }
        local = resolve_model(directory)
        model = load(cls, local, **options)
        # Of an interrupted save the directory itself, which the next save puts in place again.
        is_asked = local.resolve() == recover(pathlib.Path(directory).expanduser().resolve())
        object.__setattr__(model, "origin", origin_of(directory if is_asked else local, options))
        return model

    return load_with_origin


def open_model(directory, *, compilation_cache: str, head: Head | None = None) -> Saved:
    """Read a model, and let this process keep its compiled programs.

    Args:
      directory: of the model.
      compilation_cache: as in `use_compilation_cache`.
      head: as in `load_folder`.

    Raises:
      ValueError: the model is damaged.
      RuntimeError: JAX cannot run in this process.
    """
    check_process()
    use_compilation_cache(compilation_cache)
    return load_folder(directory, head)


def prepare_model(
    saved: Saved,
    *,
    buckets: Sequence[int] | None = None,
    dtype: DTypeLike = jnp.float32,
    driver: str = AUTO,
    autotune_table: TableSource = None,
    expected_speedup: float | None = None,
) -> LoadedModel:
    """Make the engine of a saved model; arguments as in `make_engine`, dtype as in `choose_dtype`.

    Raises:
      ValueError: all buckets are shorter than the model's length, or as in `make_engine`.
    """
    pruner = pruner_of_saved(saved)
    max_length = max_length_of(saved)
    dtype = choose_dtype(dtype, saved, autotune_table)
    if buckets is not None:
        bucket_sizes(buckets, max_length)
    found = read_tokenizer(saved.directory)
    check_embedding_rows(found.core, saved.config.vocab_size, saved.directory)
    run = make_engine(
        saved.config,
        pruner,
        buckets=buckets,
        dtype=dtype,
        driver=driver,
        autotune_table=autotune_table,
        expected_speedup=expected_speedup,
        head=saved.head,
    )
    # A program that skips padding by itself needs one padded length, so it compiles once.
    skips_padding = driver == "packed" or (driver != "masked" and bool(pruner.sites))
    return LoadedModel(
        pruner=pruner,
        run=run,
        params=prepare_params_for(driver, saved.params, saved.config, dtype),
        tokenizer=found.core,
        max_length=max_length,
        lengths=(max_length,) if skips_padding else default_lengths(max_length),
        dtype=np.dtype(dtype).name,
        tokenizer_side=found.truncation_side,
        unknown_token=found.special.get("unk_token"),
    )


def qa_settings(saved: Saved, *names: str) -> dict[str, int]:
    """Return fields of `config.qa` that a model was trained with.

    Raises:
      ValueError: the model was saved without one of them.
    """
    found = saved.extra.get("qa", {})
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{saved.directory} was saved without {', '.join(missing)} in extra['qa'], settings of "
            "config.qa that its rows are made with; save it with them, as training phases do"
        )
    return {name: found[name] for name in names}


def truncation_side_of(saved: Saved, tokenizer_side: str) -> str:
    """Return the side that loses the tokens of long texts, as in training: right, left or middle.

    Args:
      saved: the model.
      tokenizer_side: the side where the model was saved without.

    Raises:
      ValueError: the saved side has another name.
    """
    side = saved.extra.get("truncation_side", tokenizer_side)
    if side not in SIDES:
        raise ValueError(
            f"{saved.directory}: extra['truncation_side'] in config.json is {side!r:.60}; "
            f"expected {', '.join(SIDES)}"
        )
    return side


def threshold_of(saved: Saved, threshold: float | None) -> float | None:
    """Return the given decision threshold, or the saved one.

    Raises:
      ValueError: the threshold does not fit the model.
    """
    used = saved.extra.get(THRESHOLD) if threshold is None else threshold
    try:
        check_threshold(used, len(saved.class_names))
    except ValueError as error:
        if threshold is not None:
            raise
        path = saved.directory / CONFIG_FILE
        raise ValueError(f"{path}: extra.{THRESHOLD}: {error}") from error
    return None if used is None else float(used)


def check_request(batch_size: int) -> None:
    """Check a batch size, and that JAX can run in this process.

    Raises:
      RuntimeError: JAX cannot run here.
      TypeError, ValueError: as in `check_batch_size`.
    """
    check_process()
    check_batch_size(batch_size)


def padded_batch_size(num_texts: int, batch_size: int) -> int:
    """Return the rows of the batches for some texts: the next power of two, at most batch_size."""
    return min(batch_size, 1 << (num_texts - 1).bit_length())


def warm_up(
    run: Callable,
    params: Params,
    lengths: Sequence[int],
    batch_size: int,
    *,
    is_calibrated: bool = False,
) -> float:
    """Compile, or read from the cache, the programs of all batches up to a size.

    Args:
      run: (params, Batch) -> (logits, Trace).
      params: of the model.
      lengths: padded lengths of batches.
      batch_size: the largest.
      is_calibrated: if the model takes budgets.

    Returns:
      Seconds that it took.

    Raises:
      TypeError, ValueError, RuntimeError: as in `check_request`.
    """
    check_request(batch_size)
    start = time.perf_counter()
    sizes = {padded_batch_size(num_texts, batch_size) for num_texts in range(1, batch_size + 1)}
    for size, length in itertools.product(sorted(sizes), lengths):
        batch = pad_batch([[0] * length], length=length, batch_size=size)
        if is_calibrated:
            batch = batch.replace(budget_B=np.full(size, np.nan, np.float32))
        logits, _ = run(params, batch)
        np.asarray(logits)
    return time.perf_counter() - start


def sorted_batches(
    tokens: Sequence | Ragged,
    segments: Sequence | Ragged | None,
    *,
    lengths: Sequence[int],
    num_rows: int,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Put rows of similar length into batches, the longest first.

    The last batch, which may have few rows, then has the least padding.

    Args:
      tokens: token ids of every row.
      segments: segment ids of every row; None for zeros.
      lengths: a batch is padded to the first one that holds its longest row.
      num_rows: of a batch; the last batch is filled with padding examples.

    Yields:
      The numbers of a batch's rows, int64 [B], and the batch.
    """
    length_M = np.array([len(tokens[row]) for row in range(len(tokens))], np.int64)
    order_M = np.argsort(-length_M, kind="stable")
    for start in range(0, len(order_M), num_rows):
        row_B = order_M[start : start + num_rows]
        batch = pad_batch(
            [tokens[row] for row in row_B],
            None if segments is None else [segments[row] for row in row_B],
            length=bucket_for(int(length_M[row_B].max()), lengths),
            batch_size=num_rows,
        )
        yield row_B, batch


def exit_layer(trace: Trace, batch: Batch, num_layers: int) -> np.ndarray:
    """Return the number of layers that ran on each token, int32 [B, L]."""
    if trace.survival_NBL is None:
        return np.full(batch.valid_BL.shape, num_layers, np.int32)
    ran_NBL = np.asarray(trace.survival_NBL) > 0
    return np.asarray(ran_NBL.sum(axis=0, dtype=np.int32))
