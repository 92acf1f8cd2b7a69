"""What `benchmarks.peers` compares: systems that take token ids and give logits. Ours are here."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from adapler_jax.data.batching.lengths import bucket_for
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.tokenization.tokens import Tokenized
from adapler_jax.inference.autotune.timing import seconds_of
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import COMPUTE_DTYPES
from adapler_jax.weights.save import Saved

OURS = "adapler_jax"
PLAIN_DRIVERS = ("bucketed", "packed")


class Texts(NamedTuple):
    """Token and segment ids of some texts, a row a text, without padding."""

    tokens: list[np.ndarray]
    segments: list[np.ndarray]


def take(texts: Texts | Tokenized, rows) -> Texts:
    """Some of the texts."""
    return Texts([texts.tokens[row] for row in rows], [texts.segments[row] for row in rows])


def sample(num_there: int, num_wanted: int) -> np.ndarray:
    """Rows of a seeded sample in arrival order, all of them for 0 wanted; a smaller sample is the start of a larger."""
    return np.random.default_rng(0).permutation(num_there)[: num_wanted or None]


def chunks(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The rows a batch at a time; the last may be smaller."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class System(NamedTuple):
    """One model in one program."""

    package: str  # adapler_jax, or a peer
    model: str  # dense, or the name of a pruned one
    engine: str  # our driver, or how the peer got its graph
    dtype: str  # of the products' operands
    prepare: Callable[
        [Texts, int], Any
    ]  # texts and batch size -> what `run` takes, outside the timing
    run: Callable[
        [Any], np.ndarray
    ]  # -> logits float32, a row a text and perhaps fillers behind them


def our_systems(
    models: dict[str, Saved],
    *,
    drivers: Sequence[str],
    dtypes: Sequence[str],
    lengths: Sequence[int],
    buckets,
) -> list[System]:
    """Every model in every driver and dtype; plain BERT, which drops nothing, padded and packed.

    Args: models: by name. drivers: of the pruned models. lengths: to which padded plain BERT's batches are padded;
    those of the others take the last one, since their programs leave padding out by themselves. buckets: as in
    `make_engine`.
    """
    systems = []
    for name, saved in models.items():
        pruner = pruner_of_saved(saved)
        for dtype in dtypes:
            params = jax.device_put(
                prepare_inference_params(saved.params, saved.config, COMPUTE_DTYPES[dtype])
            )
            for driver in drivers if pruner.sites else PLAIN_DRIVERS:
                is_padded = not pruner.sites and driver == "bucketed"
                engine = make_engine(
                    saved.config,
                    pruner,
                    buckets=buckets,
                    dtype=COMPUTE_DTYPES[dtype],
                    driver=driver,
                )
                systems.append(
                    System(
                        OURS,
                        name,
                        "padded" if is_padded else driver,
                        dtype,
                        prepare=functools.partial(
                            pad_for_us, lengths=lengths if is_padded else lengths[-1:]
                        ),
                        run=functools.partial(run_ours, engine, params),
                    )
                )
    return systems


def pad_for_us(texts: Texts, batch_size: int, *, lengths: Sequence[int]):
    """A Batch on the device, at the first of the lengths that holds the longest text."""
    length = bucket_for(max(map(len, texts.tokens)), lengths)
    return jax.device_put(
        pad_batch(texts.tokens, texts.segments, length=length, batch_size=batch_size)
    )


def run_ours(engine: Callable, params, batch) -> np.ndarray:
    """Logits of a batch, on the host."""
    return np.asarray(engine(params, batch)[0])


def pad_to_longest(texts: Texts, batch_size: int) -> dict[str, np.ndarray]:
    """The three inputs of a Hugging Face BERT, int64, padded to the batch's longest text; no fillers."""
    del batch_size
    batch = pad_batch(texts.tokens, texts.segments, length=max(map(len, texts.tokens)))
    return {
        "input_ids": batch.token_BL.astype(np.int64),
        "attention_mask": batch.valid_BL.astype(np.int64),
        "token_type_ids": batch.segment_BL.astype(np.int64),
    }


class Bench:
    """Some systems in one process, and what is measured of them."""

    def __init__(self, systems: Sequence[System]):
        self._systems, self._calls = systems, []

    def names(self) -> list[dict[str, str]]:
        """{"package", "method", "engine", "dtype"} of each system."""
        return [
            {
                "package": system.package,
                "method": system.model,
                "engine": system.engine,
                "dtype": system.dtype,
            }
            for system in self._systems
        ]

    def predict(self, texts: Texts, batch_size: int) -> list[np.ndarray]:
        """Each system's labels of some texts, in batches of like length."""
        order = np.argsort([len(tokens) for tokens in texts.tokens], kind="stable")
        predicted = []
        for system in self._systems:
            label_E = np.zeros(len(order), np.int64)
            for places in chunks(order, batch_size):
                logits_BC = system.run(system.prepare(take(texts, places), batch_size))
                label_E[places] = np.argmax(logits_BC[: len(places)], axis=-1)
            predicted.append(label_E)
        return predicted

    def prepare(self, batches: Sequence[Texts]) -> None:
        """Takes the batches of the coming turns, and runs each once, which compiles."""
        self._calls = []
        for system in self._systems:
            inputs = [system.prepare(batch, len(batch.tokens)) for batch in batches]
            self._calls.append([functools.partial(system.run, batch) for batch in inputs])
            for call in self._calls[-1]:
                call()

    def turn(self, place: int) -> list[float]:
        """Seconds of one system on each batch; the first batch once before, uncounted, into cold caches."""
        self._calls[place][0]()
        return [seconds_of(call) for call in self._calls[place]]
