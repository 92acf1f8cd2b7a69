"""Systems that `benchmarks.peers` compares: they take token ids and give logits. Ours are here."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from adapler_jax.data.batching.lengths import bucket_for
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.inference.autotune.timing import seconds_of
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import COMPUTE_DTYPES
from adapler_jax.weights.save import Saved

OURS = "adapler_jax"
PLAIN_DRIVERS = ("bucketed", "packed")


class Texts(NamedTuple):
    """Token and segment ids of some texts, a row for each text, without padding."""

    tokens: list[np.ndarray]
    segments: list[np.ndarray]


def take(texts: Texts | Tokenized, rows) -> Texts:
    """Return some of the texts."""
    return Texts([texts.tokens[row] for row in rows], [texts.segments[row] for row in rows])


def sample(num_there: int, num_wanted: int) -> np.ndarray:
    """Return the rows of a seeded sample in arrival order.

    All rows for num_wanted 0. A smaller sample is the start of a larger sample.
    """
    return np.random.default_rng(0).permutation(num_there)[: num_wanted or None]


def chunks(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Yield the rows in batches; the last may be smaller."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class System(NamedTuple):
    """One model in one program."""

    package: str  # adapler_jax, or a baseline
    model: str  # dense, or the name of a pruned one
    engine: str  # our driver, or how the baseline got its graph
    dtype: str  # of the products' operands
    # texts and batch size -> the input of `run`, outside the timing
    prepare: Callable[[Texts, int], Any]
    # -> logits float32, a row for each text, perhaps with padding examples after them
    run: Callable[[Any], np.ndarray]


def our_systems(
    models: dict[str, Saved],
    *,
    drivers: Sequence[str],
    dtypes: Sequence[str],
    lengths: Sequence[int],
    buckets,
) -> list[System]:
    """Return every model in every driver and dtype; plain BERT padded and packed.

    Args:
      models: by name.
      drivers: of the pruned models.
      lengths: that batches of padded plain BERT are padded to. Batches of pruned models have the
        last
        length, because their programs leave padding out themselves.
      buckets: as in `make_engine`.
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
    """Return a Batch on the device, at the first length that fits the longest text."""
    length = bucket_for(max(map(len, texts.tokens)), lengths)
    return jax.device_put(
        pad_batch(texts.tokens, texts.segments, length=length, batch_size=batch_size)
    )


def run_ours(engine: Callable, params, batch) -> np.ndarray:
    """Return the logits of a batch, on the host."""
    return np.asarray(engine(params, batch)[0])


def pad_to_longest(texts: Texts, batch_size: int) -> dict[str, np.ndarray]:
    """Return the three inputs of a Hugging Face BERT, int64, padded to the longest text."""
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
        """Take the systems."""
        self._systems, self._calls = systems, []

    def names(self) -> list[dict[str, str]]:
        """Return {"package", "method", "engine", "dtype"} of each system."""
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
        """Return each system's answers to some texts, in batches of similar length.

        An answer is a class, int64, or of a model with one output the logit, float64.
        """
        order = np.argsort([len(tokens) for tokens in texts.tokens], kind="stable")
        predicted = []
        for system in self._systems:
            logits = [
                np.asarray(system.run(system.prepare(take(texts, places), batch_size)))[
                    : len(places)
                ]
                for places in chunks(order, batch_size)
            ]
            logits_EC = np.zeros((len(order), logits[0].shape[-1]))
            logits_EC[order] = np.concatenate(logits)
            has_classes = logits_EC.shape[-1] > 1
            predicted.append(np.argmax(logits_EC, axis=-1) if has_classes else logits_EC[:, 0])
        return predicted

    def prepare(self, batches: Sequence[Texts]) -> None:
        """Take the batches of the coming turns, and run each once, which compiles."""
        self._calls = []
        for system in self._systems:
            inputs = [system.prepare(batch, len(batch.tokens)) for batch in batches]
            self._calls.append([functools.partial(system.run, batch) for batch in inputs])
            for call in self._calls[-1]:
                call()

    def turn(self, place: int) -> list[float]:
        """Return one system's seconds on each batch, after an uncounted run of the first batch."""
        self._calls[place][0]()
        return [seconds_of(call) for call in self._calls[place]]
