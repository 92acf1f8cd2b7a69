"""Select a driver for a batch, compile it, and run it."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.encoders import encoder_of
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.autotune.select import DriverChoice, select_driver
from adapler_jax.inference.autotune.table import LatencyTable, TableSource, find_table
from adapler_jax.inference.drivers import bucketed, masked, packed
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, check_buckets
from adapler_jax.inference.drivers.staged_run import MIN_LAYERS, StagedRun
from adapler_jax.inference.drivers.stages import StagedProgram
from adapler_jax.inference.ids import check_ids
from adapler_jax.inference.processes import check_process
from adapler_jax.pruning.base import Pruner, check_supported
from adapler_jax.types import Batch, EncoderConfig, Params, Trace, compute_dtype

DRIVERS = {"bucketed": bucketed.forward, "masked": masked.forward, "packed": packed.forward}
# (config, pruner, shape, **options) -> stages; None for plain BERT in the bucketed driver
STAGED_DRIVERS: dict[str, Callable[..., StagedProgram | None]] = {
    "bucketed": bucketed.make_stages,
    "packed": packed.make_stages,
}
AUTO = "auto"
DRIVER_NAMES = (AUTO, *DRIVERS)
# The packed driver has many small loops. On CPUs this flag saves a tenth of their compilation.
QUICK_COMPILATION: dict[str, str | bool] = {"xla_llvm_disable_expensive_passes": True}
MIN_SPLIT = 16  # texts of a batch that the packed driver runs in two threads on CPUs

Program = Callable[[Params, Batch], tuple[Any, Trace]]  # logits of the head, and the trace


class EngineOptions(TypedDict, total=False):
    """Keywords of `make_engine` that users set when they load or evaluate a model."""

    buckets: Sequence[int] | None
    dtype: DTypeLike
    driver: str
    autotune_table: TableSource
    expected_speedup: float | None


@dataclasses.dataclass(frozen=True)
class Engine:
    """A function (params, Batch) -> (logits float32 of the head, Trace).

    Make one with `make_engine`. It compiles once a batch shape. On CPUs, a packed batch of
    MIN_SPLIT texts or more runs as two halves, each in a thread. Settings by JAX's context
    managers do not reach these threads.

    Attributes:
      select_driver: (batch size, token slots) -> driver and buckets of such a batch.
      program: (batch size, token slots) -> the jitted function for such a batch.
      config: of the encoder.
    """

    select_driver: Callable[[int, int], DriverChoice]
    program: Callable[[int, int], Program] = dataclasses.field(repr=False)
    config: EncoderConfig

    def __call__(self, params: Params, batch: Batch) -> tuple[Any, Trace]:
        """Run a batch.

        Args:
          params: from `prepare_params_for`.
          batch: token ids, segments and mask.

        Returns:
          Logits of the head, float32, and the trace, both as JAX arrays.

        Raises:
          ValueError: an id is not in the encoder's tables, or the mask has a gap.
        """
        check_ids(batch, self.config)
        driver = self.select_driver(*batch.token_BL.shape).driver
        return run_program(driver, self.program, params, batch)

    def __reduce__(self):
        """Raise TypeError: compiled programs stay in their process."""
        raise TypeError(
            "an Engine cannot be sent to another process; make it in every worker with make_engine"
        )

    def __copy__(self) -> "Engine":
        """Return the engine itself: nothing in it changes."""
        return self

    def __deepcopy__(self, memo) -> "Engine":
        """Return the engine itself: nothing in it changes."""
        return self


def run_program(
    driver: str, program: Callable[[int, int], Program], params: Params, batch: Batch
) -> tuple[Any, Trace]:
    """Run a driver's program on a batch, in two threads where that is faster.

    Args:
      driver: that the program runs.
      program: as in `Engine`.
      params: from `prepare_params_for`.
      batch: token ids, segments and mask.

    Raises:
      ValueError: the mask has a gap.
      RuntimeError: JAX cannot run in this process.
    """
    check_process()
    check_mask(batch.valid_BL)
    B, L = batch.token_BL.shape
    if program_rows(driver, B) < B:
        return in_two_threads(program(B, L), params, batch)
    return program(B, L)(params, batch)


def check_mask(valid_BL) -> None:
    """Check that the tokens of each text are its first slots; traced masks pass unchecked.

    Raises:
      ValueError: a padding slot precedes a token.
    """
    if isinstance(valid_BL, jax.core.Tracer):
        return
    valid_BL = np.asarray(valid_BL)
    has_gap_B = np.any(valid_BL[:, 1:] & ~valid_BL[:, :-1], axis=1)
    if np.any(has_gap_B):
        raise ValueError(
            f"row {int(np.argmax(has_gap_B))} of the batch has a gap in its mask valid_BL; move "
            "the tokens of each row to its first slots, with the padding on the right"
        )


def program_rows(driver: str, batch_size: int) -> int:
    """Return the texts of one program: half of the batch, rounded up, where two run at a time."""
    is_split = driver == "packed" and batch_size >= MIN_SPLIT and jax.default_backend() == "cpu"
    return -(-batch_size // 2) if is_split else batch_size


def in_two_threads(run: Program, params: Params, batch: Batch) -> tuple[Any, Trace]:
    """Run the even and the odd rows of a batch in a thread each.

    The packed driver's many small steps leave a processor idle; two programs at a time use it.
    The last row of an odd batch runs twice.
    """
    B = len(batch.token_BL)
    parts = [
        jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], batch) for rows in halves(B)
    ]
    results = _pool().map(lambda half: jax.device_get(run(params, half)), parts)
    (even_logits, even_trace), (odd_logits, odd_trace) = results
    logits = jax.tree.map(
        lambda even, odd: alternate(even, odd, axis=0)[:B], even_logits, odd_logits
    )
    exit_hidden_BLD = None
    if even_trace.exit_hidden_BLD is not None:
        exit_hidden_BLD = alternate(even_trace.exit_hidden_BLD, odd_trace.exit_hidden_BLD, axis=0)[
            :B
        ]
    # All other fields of a trace have the layers as their first axis.
    trace = jax.tree.map(
        lambda even, odd: alternate(even, odd, axis=1)[:, :B],
        even_trace.replace(exit_hidden_BLD=None),
        odd_trace.replace(exit_hidden_BLD=None),
    )
    return jax.device_put((logits, trace.replace(exit_hidden_BLD=exit_hidden_BLD)))


def halves(batch_size: int) -> list[np.ndarray]:
    """Return the even and the odd rows of a batch; the last row is in both if its size is odd."""
    num_rows = batch_size + batch_size % 2
    return [np.minimum(np.arange(start, num_rows, 2), batch_size - 1) for start in (0, 1)]


def alternate(first, second, *, axis: int) -> np.ndarray:
    """Return slices of two arrays along an axis, one of each in turn."""
    joined = np.stack([first, second], axis=axis + 1)
    return joined.reshape(*first.shape[:axis], -1, *first.shape[axis + 1 :])


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads that run halves of batches."""
    return concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="adapler-half")


def make_engine(
    config: EncoderConfig,
    pruner: Pruner,
    *,
    buckets: Sequence[int] | None = None,
    dtype: DTypeLike = jnp.float32,
    driver: str = AUTO,
    autotune_table: TableSource = None,
    expected_speedup: float | None = None,
    tiles: Sequence[int] = packed.TILES,
    block_tokens: int = packed.BLOCK_TOKENS,
    head: Head = CLASSIFICATION,
    return_exit_hidden: bool = False,
) -> Engine:
    """Make the engine of a model; equal arguments share their compiled programs.

    Args:
      config: of the encoder.
      pruner: of the model.
      buckets: increasing lengths to which kept tokens are padded, in "packed" for attention only.
        The largest holds every token slot of a batch. None for the library's.
      dtype: of the operands of the encoder's products.
      driver: "auto" selects "bucketed" or "packed" for each batch shape by a latency table. On an
        accelerator without a table it is "bucketed". "masked" is the reference, at full width.
      autotune_table: for "auto", as in `find_table`.
      expected_speedup: for "auto", FLOPs speedup of the model, if known.
      tiles: tokens of one matrix product of "packed"; several sizes.
      block_tokens: tokens that "packed" runs through a layer at a time.
      head: computes the logits.
      return_exit_hidden: the trace has the last state of every token, dropped tokens included,
        float32 [B, L, D].

    Raises:
      ValueError: an argument has another value, or the table belongs to another device.
      RuntimeError: JAX cannot run in this process.
    """
    check_process()
    tiles = tuple(tiles)
    _check_options(driver, tiles, block_tokens, expected_speedup=expected_speedup)
    operand_dtype = compute_dtype(dtype)
    select = _make_selector(
        config,
        pruner,
        buckets=None if buckets is None else check_buckets(buckets),
        dtype=operand_dtype,
        driver=driver,
        table=find_table(autotune_table) if driver == AUTO else None,
        expected_speedup=expected_speedup,
    )

    @functools.cache
    def program(batch_size: int, length: int) -> Program:
        name, bucket_sizes = select(batch_size, length)
        options: dict[str, Any] = {} if name == "masked" else {"buckets": bucket_sizes}
        if name == "packed":
            options |= {"tiles": tiles, "block_tokens": block_tokens}
        options |= {"head": head, "return_exit_hidden": return_exit_hidden}
        return _jitted(config, pruner, name, dtype=operand_dtype, **options)

    return Engine(select_driver=select, program=program, config=config)


def _make_selector(
    config: EncoderConfig,
    pruner: Pruner,
    *,
    buckets: tuple[int, ...] | None,
    dtype: DTypeLike,
    driver: str,
    table: LatencyTable | None,
    expected_speedup: float | None,
) -> Callable[[int, int], DriverChoice]:
    """Return the function `Engine.select_driver`; arguments as in `make_engine`."""

    @functools.cache
    def select(batch_size: int, length: int) -> DriverChoice:
        _check_shape(batch_size, length)
        if table is None:
            name = "bucketed" if driver == AUTO else driver
            return DriverChoice(name, buckets or DEFAULT_BUCKETS)
        return select_driver(
            table,
            config,
            dtype,
            batch_size=batch_size,
            length=length,
            is_pruned=bool(pruner.sites),
            expected_speedup=expected_speedup,
            buckets=buckets,
        )

    return select


def _check_options(
    driver: str, tiles: tuple[int, ...], block_tokens: int, *, expected_speedup: float | None
) -> None:
    """Raise ValueError for options that users gave and no engine takes."""
    if driver not in DRIVER_NAMES:
        raise ValueError(f"unknown driver {driver!r}; there are {', '.join(DRIVER_NAMES)}")
    if not tiles or min(*tiles, block_tokens) < 1:
        raise ValueError(
            f"tiles {tiles} and block_tokens {block_tokens}; expected positive numbers of rows"
        )
    if expected_speedup is not None and not 0.0 < expected_speedup < float("inf"):
        raise ValueError(
            f"expected_speedup is {expected_speedup}; expected a positive number, or None"
        )


def _check_shape(batch_size: int, length: int) -> None:
    """Raise ValueError for a batch without rows or token slots."""
    if batch_size < 1 or length < 1:
        raise ValueError(
            f"a batch of {batch_size} rows and {length} token slots; expected at least 1 of each"
        )


def prepare_inference_params(
    params: Params, config: EncoderConfig, dtype: DTypeLike = jnp.float32
) -> Params:
    """Return a model's parameters in the layout that the fast drivers need.

    Args:
      params: of the whole model, encoder layers stacked.
      config: of the encoder.
      dtype: of the operands of the encoder's products.
    """
    prepare = encoder_of(config).prepare_inference_params
    return params | {"encoder": prepare(params["encoder"], config, compute_dtype(dtype))}


def prepare_params_for(
    driver: str, params: Params, config: EncoderConfig, dtype: DTypeLike = jnp.float32
) -> Params:
    """Return the parameters for an engine of this driver: "masked" takes them as saved."""
    return params if driver == "masked" else prepare_inference_params(params, config, dtype)


@functools.lru_cache(maxsize=32)
def _jitted(
    config: EncoderConfig, pruner: Pruner, driver: str, *, dtype: DTypeLike, **options
) -> Program:
    """Return a jitted driver, one object for equal arguments, so that it compiles once.

    On CPUs the pruned drivers of many layers run in stages. Plain BERT in the bucketed driver runs
    some texts at a time through all layers, so it is one program.
    """
    is_on_cpu = jax.default_backend() == "cpu"
    quick = QUICK_COMPILATION if driver == "packed" and is_on_cpu else None
    has_stages = driver == "packed" or (driver == "bucketed" and bool(pruner.sites))

    def run(params: Params, batch: Batch) -> tuple[Any, Trace]:
        return DRIVERS[driver](params, config, pruner, batch, dtype=dtype, **options)

    whole = jax.jit(run, compiler_options=quick)
    if not (has_stages and is_on_cpu and config.num_layers >= MIN_LAYERS):
        return whole
    check_supported(pruner, config)

    def make_stages(shape: tuple[int, ...]) -> StagedProgram:
        stages = STAGED_DRIVERS[driver](config, pruner, shape, dtype=dtype, **options)
        assert stages is not None
        return stages

    return StagedRun(make_stages, whole, compiler_options=quick)
