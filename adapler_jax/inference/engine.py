"""Picks a driver and compiles it."""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import encoder_of
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.autotune.select import DriverChoice, choose
from adapler_jax.inference.autotune.table import LatencyTable, find_table
from adapler_jax.inference.drivers import bucketed, masked, packed
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, check_buckets
from adapler_jax.inference.ids import check_ids
from adapler_jax.inference.processes import check_process
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Batch, EncoderConfig, Params, compute_dtype

DRIVERS = {"bucketed": bucketed.forward, "masked": masked.forward, "packed": packed.forward}
AUTO = "auto"
DRIVER_NAMES = (AUTO, *DRIVERS)
# Of the packed driver's many small loops on CPUs: a tenth less time to compile, the same to run.
QUICK_COMPILATION = {"xla_llvm_disable_expensive_passes": True}
MIN_SPLIT = 16  # rows of a batch that the packed driver takes in two threads on CPUs


@dataclasses.dataclass(frozen=True)
class Engine:
    """A function (params, Batch) -> (logits float32 of the head, Trace); it compiles once a batch shape.

    Make one with `make_engine`. On CPUs a packed batch of MIN_SPLIT rows or more runs as two halves at a time, and its
    answers are NumPy arrays; settings by JAX's context managers do not reach them. `choice` and `program` take the
    numbers of rows and of token slots of a batch: what runs it, and the jitted function that does.
    """

    choice: Callable[[int, int], DriverChoice]
    program: Callable[[int, int], Callable] = dataclasses.field(repr=False)
    config: EncoderConfig

    def __call__(self, params: Params, batch: Batch):
        """Logits float32 of the head and Trace of a batch. Raises ValueError as `check_ids`."""
        check_ids(batch, self.config)
        return run_program(self.choice(*batch.token_BL.shape).driver, self.program, params, batch)

    def __reduce__(self):
        """Raises TypeError: compiled programs stay in their process."""
        raise TypeError(
            "an Engine cannot be sent to another process; make it in every worker with make_engine"
        )

    def __copy__(self):
        """The engine itself: nothing in it changes."""
        return self

    def __deepcopy__(self, memo):
        """The engine itself: nothing in it changes."""
        return self


def run_program(driver: str, program: Callable[[int, int], Callable], params: Params, batch: Batch):
    """The answers of a driver's program for a batch, in two threads where that is faster; program as in `Engine`."""
    check_process()
    check_mask(batch.valid_BL)
    B, L = batch.token_BL.shape
    if program_rows(driver, B) < B:
        return in_two_threads(program, params, batch)
    return program(B, L)(params, batch)


def check_mask(valid_BL) -> None:
    """Raises ValueError where the tokens of a row are not its first slots; traced masks are not looked at."""
    if isinstance(valid_BL, jax.core.Tracer):
        return
    valid_BL = np.asarray(valid_BL)
    has_gap_B = np.any(valid_BL[:, 1:] & ~valid_BL[:, :-1], axis=1)
    if np.any(has_gap_B):
        raise ValueError(
            f"row {int(np.argmax(has_gap_B))} of the batch has a gap in its mask valid_BL; move the tokens of each row "
            "to its first slots, with the padding on the right"
        )


def program_rows(driver: str, batch_size: int) -> int:
    """Rows of the programs that a driver runs for a batch: half of it, rounded up, where two run at a time."""
    is_split = driver == "packed" and batch_size >= MIN_SPLIT and jax.default_backend() == "cpu"
    return -(-batch_size // 2) if is_split else batch_size


def in_two_threads(program: Callable[[int, int], Callable], params: Params, batch: Batch):
    """The answers for a batch, every other row in a thread of its own: the packed driver's many small steps leave a
    processor idle, two at a time do not. An odd batch is filled up with its last row."""
    B, L = batch.token_BL.shape
    parts = [jax.tree.map(lambda leaf, row=row: np.asarray(leaf)[row], batch) for row in halves(B)]
    run = program(B, L)
    found = list(_pool().map(lambda half: jax.device_get(run(params, half)), parts))
    logits = jax.tree.map(
        lambda *leaves: alternate(*leaves, axis=0)[:B], *(logits for logits, _ in found)
    )
    traces = [trace for _, trace in found]
    last = [trace.exit_hidden_BLD for trace in traces]
    sites = jax.tree.map(
        lambda *leaves: alternate(*leaves, axis=1)[:, :B],
        *(trace.replace(exit_hidden_BLD=None) for trace in traces),
    )
    return logits, sites.replace(
        exit_hidden_BLD=None if last[0] is None else alternate(*last, axis=0)[:B]
    )


def halves(batch_size: int) -> list[np.ndarray]:
    """The rows of the two halves of a batch, the last row again where it is odd."""
    num_rows = batch_size + batch_size % 2
    return [np.minimum(np.arange(start, num_rows, 2), batch_size - 1) for start in (0, 1)]


def alternate(first, second, *, axis: int):
    """Slices of two arrays along an axis, one of each in turns."""
    joined = np.stack([first, second], axis=axis + 1)
    return joined.reshape(*first.shape[:axis], -1, *first.shape[axis + 1 :])


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="adapler-half")


def make_engine(
    config: EncoderConfig,
    pruner: Pruner,
    *,
    buckets: Sequence[int] | None = None,
    dtype=jnp.float32,
    driver: str = AUTO,
    tiles: Sequence[int] = packed.TILES,
    autotune_table: LatencyTable | str | os.PathLike | None = None,
    expected_speedup: float | None = None,
    block_tokens: int = packed.BLOCK_TOKENS,
    head: Head = CLASSIFICATION,
    return_exit_hidden: bool = False,
) -> Engine:
    """The engine of a model; equal arguments share their compiled programs.

    Args: buckets: increasing lengths to which kept tokens are padded ("packed": for their attention); the largest holds
    every token slot of a batch. None for the library's. dtype: of the operands of the encoder's products. driver:
    "auto" is the faster of "bucketed" and "packed" by a latency table, for every batch shape apart, and "bucketed" on
    an accelerator without one; "masked" is the oracle, at full width. tiles, block_tokens: rows of "packed" in a
    product and in a layer. autotune_table: for "auto", as in `find_table`. expected_speedup: for "auto", the model's
    FLOPs speedup where it is known. head: what reads the last states. return_exit_hidden: whether the Trace has the last state
    of every token, dropped ones included, float32 [B, L, D].
    Raises ValueError on an unknown driver, buckets that are no increasing positive numbers, rows below 1, or a table
    that does not serve on this device.
    """
    check_process()
    buckets, dtype = None if buckets is None else check_buckets(buckets), compute_dtype(dtype)
    tiles = tuple(tiles)
    if not tiles or min(*tiles, block_tokens) < 1:
        raise ValueError(
            f"tiles {tiles} and block_tokens {block_tokens}; expected positive numbers of rows"
        )
    if driver not in DRIVER_NAMES:
        raise ValueError(f"unknown driver {driver!r}; there are {', '.join(DRIVER_NAMES)}")
    if expected_speedup is not None and not 0.0 < expected_speedup < float("inf"):
        raise ValueError(
            f"expected_speedup is {expected_speedup}; expected a positive number, or None"
        )
    if driver == AUTO:
        pick = functools.partial(
            pick_driver,
            table=find_table(autotune_table),
            config=config,
            dtype=dtype,
            is_pruned=bool(pruner.sites),
            expected_speedup=expected_speedup,
            buckets=buckets,
        )
    else:

        def pick(**shape):
            return DriverChoice(driver, buckets or DEFAULT_BUCKETS)

    @functools.cache
    def choice(batch_size, length):
        if batch_size < 1 or length < 1:
            raise ValueError(
                f"a batch of {batch_size} rows and {length} token slots; expected at least 1 of each"
            )
        return pick(batch_size=batch_size, length=length)

    def program(batch_size, length):
        name, rungs = choice(batch_size, length)
        options = {"masked": {}, "bucketed": {"buckets": rungs}}
        options["packed"] = {"buckets": rungs, "tiles": tiles, "block_tokens": block_tokens}
        return _jitted(
            config,
            pruner,
            name,
            dtype,
            head=head,
            return_exit_hidden=return_exit_hidden,
            **options[name],
        )

    return Engine(choice=choice, program=functools.cache(program), config=config)


def pick_driver(
    *, table: LatencyTable | None, buckets: Sequence[int] | None, **case
) -> DriverChoice:
    """`choose` by a table; of None, the choice where nothing was measured: "bucketed", with all buckets."""
    if table is None:
        return DriverChoice("bucketed", buckets or DEFAULT_BUCKETS)
    config, dtype = case.pop("config"), case.pop("dtype")
    return choose(table, config, dtype, buckets=buckets, **case)


def prepare_inference_params(params: Params, config: EncoderConfig, dtype=jnp.float32) -> Params:
    """Return the whole model's parameters as the fast drivers run them fastest."""
    prepare = encoder_of(config).prepare_inference_params
    return params | {"encoder": prepare(params["encoder"], config, compute_dtype(dtype))}


def prepare_params_for(
    driver: str, params: Params, config: EncoderConfig, dtype=jnp.float32
) -> Params:
    """The parameters as an engine of this driver reads them: "masked" takes them as they are saved."""
    return params if driver == "masked" else prepare_inference_params(params, config, dtype)


@functools.lru_cache(maxsize=32)
def _jitted(config: EncoderConfig, pruner: Pruner, driver: str, dtype, **options) -> Callable:
    """One function object for equal arguments, so that asking twice does not compile twice."""

    def run(params, batch):
        return DRIVERS[driver](params, config, pruner, batch, dtype=dtype, **options)

    is_slow_to_compile = driver == "packed" and jax.default_backend() == "cpu"
    return jax.jit(run, compiler_options=QUICK_COMPILATION if is_slow_to_compile else None)
