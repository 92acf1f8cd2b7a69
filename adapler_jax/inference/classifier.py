"""A saved model as its users see it: texts in, labels and kept words out."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from adapler_jax.caches import use_compilation_cache
from adapler_jax.data.lengths import bucket_for, default_lengths
from adapler_jax.data.padding import pad_batch
from adapler_jax.data.tokenizers import load_core
from adapler_jax.inference.buckets import ladder
from adapler_jax.inference.engine import AUTO, lay_out_for, make_engine
from adapler_jax.inference.explanation import Explanation
from adapler_jax.inference.exported import max_length_of, use_programs
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.words import Encoded, encode_words
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import Params
from adapler_jax.weights.save import load_model


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model that classifies texts. Make one with `Classifier.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Any = dataclasses.field(repr=False)
    class_names: tuple[str, ...]
    num_layers: int
    max_length: int
    lengths: tuple[int, ...]  # to which batches are padded
    site_layers: tuple[int, ...]  # layers, numbers from 0, at which the model scores tokens and drops them

    @classmethod
    def load(
        cls, directory, *, buckets: Sequence[int] | None = None, dtype=jnp.float32, driver: str = AUTO,
        latency_table=None, expected_speedup: float | None = None, compilation_cache: str = "",
    ) -> "Classifier":  # fmt: skip
        """Reads a saved model directory. Raises ValueError where it is damaged, or longer than all buckets.

        Args: as in `make_engine`; compilation_cache: where compiled programs are kept for later processes, as in
        `use_compilation_cache`; "none" for nowhere. Programs that `export_model` put into the directory for the same
        arguments are used; they give the same answers, sooner.
        """
        use_compilation_cache(compilation_cache)
        saved = load_model(directory)
        pruner = pruner_of_saved(saved)
        engine = make_engine(
            saved.config, pruner, buckets=buckets, dtype=dtype, driver=driver, latency_table=latency_table,
            expected_speedup=expected_speedup,
        )  # fmt: skip
        params = lay_out_for(driver, saved.params, saved.config, dtype)
        run, params = use_programs(engine, saved, params, buckets=buckets, dtype=dtype, driver=driver)
        max_length = max_length_of(saved)
        if buckets is not None:
            ladder(buckets, max_length)
        # A program that leaves padding out by itself needs no second padded length, so it is compiled once.
        single = driver == "packed" or (driver != "masked" and bool(pruner.sites))
        return cls(
            run=run,
            params=params,
            tokenizer=load_core(saved.directory),
            class_names=saved.class_names,
            num_layers=saved.config.num_layers,
            max_length=max_length,
            lengths=(max_length,) if single else default_lengths(max_length),
            site_layers=tuple(site.layer for site in pruner.sites),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compiles, or reads back, every program that `predict` with this batch_size can ask for; returns the seconds.

        Afterwards no request compiles anything, whatever the number and length of its texts.
        Raises ValueError on a batch_size below 1.
        """
        check_batch_size(batch_size)
        start = time.perf_counter()
        row_counts = {rows_for(num_texts, batch_size) for num_texts in range(1, batch_size + 1)}
        for num_rows, length in itertools.product(sorted(row_counts), self.lengths):
            batch = pad_batch([[0] * length], length=length, batch_size=num_rows)
            np.asarray(self.run(self.params, batch)[0])
        return time.perf_counter() - start

    def predict(self, texts: Sequence[str | tuple[str, str]], *, batch_size: int = 32) -> list[Prediction]:
        """Classifies texts, or pairs of texts, in the given order.

        Texts of like length share a batch. Longer texts than the model's length are cut. Fewer texts than batch_size
        run in a batch of the next power of two; the first call with a batch shape compiles, unless `warm_up` did.
        Raises TypeError where texts is no list or mixes strings and pairs; ValueError on a batch_size below 1.
        """
        answers = self._answer(texts, batch_size)
        return [self._prediction(encoded, prob_C, keep_NL) for encoded, prob_C, keep_NL, _ in answers]

    def explain(self, text: str | tuple[str, str]) -> Explanation:
        """What the model made of one text or pair, token by token; see `explain_all`."""
        return self.explain_all([text])[0]

    def explain_all(self, texts: Sequence[str | tuple[str, str]], *, batch_size: int = 32) -> list[Explanation]:
        """Classifies texts as `predict` does, and tells the score of every token at every layer.

        Raises as `predict` does, and ValueError where the model drops no tokens.
        """
        if not self.site_layers:
            raise ValueError("the model drops no tokens, so there is nothing to explain; load one that was pruned")
        return [
            Explanation(
                prediction=self._prediction(encoded, prob_C, keep_NL),
                tokens=tuple(self.tokenizer.id_to_token(token) for token in encoded.token_L.tolist()),
                word_L=encoded.word_L,
                keep_NL=keep_NL,
                score_NL=np.where(entered(keep_NL), score_NL, 0.0).astype(np.float32),
                site_layers=self.site_layers,
            )
            for encoded, prob_C, keep_NL, score_NL in self._answer(texts, batch_size)
        ]

    def _answer(self, texts, batch_size: int) -> list[tuple]:
        """(Encoded, probabilities [C], keep_NL, score_NL or None) of every text, in the given order."""
        check_batch_size(batch_size)
        firsts, seconds = split_pairs(texts)
        if not firsts:
            return []
        encoded = encode_words(self.tokenizer, firsts, seconds, max_length=self.max_length)
        num_rows = rows_for(len(encoded), batch_size)
        answers: list[tuple | None] = [None] * len(encoded)
        for rows in batch_rows(encoded, batch_size):
            for row, answer in zip(rows, self._run_batch([encoded[row] for row in rows], num_rows)):
                answers[row] = (encoded[row], *answer)
        return answers

    def _run_batch(self, encoded: list[Encoded], num_rows: int) -> Iterator[tuple]:
        """Runs one batch, filled up to num_rows, and tells its rows apart."""
        batch = pad_batch(
            [row.token_L for row in encoded],
            [row.segment_L for row in encoded],
            length=bucket_for(max(len(row.token_L) for row in encoded), self.lengths),
            batch_size=num_rows,
        )
        logits_BC, trace = self.run(self.params, batch)
        prob_BC = softmax(np.asarray(logits_BC))
        keep_NBL = np.broadcast_to(batch.live_BL, (self.num_layers, *batch.live_BL.shape))
        if trace.weight_NBL is not None:
            keep_NBL = np.asarray(trace.weight_NBL) > 0
        score_NBL = None if trace.score_NBL is None else np.asarray(trace.score_NBL)
        for row, example in enumerate(encoded):
            length = len(example.token_L)
            yield (
                prob_BC[row],
                keep_NBL[:, row, :length],
                None if score_NBL is None else score_NBL[:, row, :length],
            )

    def _prediction(self, example: Encoded, prob_C, keep_NL) -> Prediction:
        """The answer for one row; a word is there while one of its pieces is."""
        keep_NW = np.zeros((self.num_layers, len(example.words)), bool)
        layer, place = np.nonzero(keep_NL & (example.word_L >= 0))
        keep_NW[layer, example.word_L[place]] = True
        best = int(np.argmax(prob_C))
        return Prediction(
            texts=example.texts,
            label=self.class_names[best],
            probability=float(prob_C[best]),
            probabilities={name: float(prob) for name, prob in zip(self.class_names, prob_C)},
            words=example.words,
            keep_NW=keep_NW,
            num_tokens=tuple(keep_NL.sum(axis=-1).tolist()),
        )


def entered(keep_NL):
    """Which tokens were still there when the site of each layer scored them, bool [layers, tokens]."""
    return np.concatenate([np.ones_like(keep_NL[:1]), keep_NL[:-1]])


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError on a batch_size below 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")


def rows_for(num_texts: int, batch_size: int) -> int:
    """Rows of the batches that so many texts run in: the next power of two, at most batch_size."""
    return min(batch_size, 1 << (num_texts - 1).bit_length())


def softmax(logits_BC):
    """Probabilities float32 [B, C]; in NumPy, which compiles nothing."""
    power_BC = np.exp(logits_BC - logits_BC.max(axis=-1, keepdims=True))
    return power_BC / power_BC.sum(axis=-1, keepdims=True)


def split_pairs(texts) -> tuple[list[str], list[str] | None]:
    """First and second texts; None for the second where there are no pairs."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"predict takes a list of texts, not {texts!r:.60}; write predict([text]) for a single one")
    texts = list(texts)
    if all(isinstance(text, str) for text in texts):
        return texts, None
    for place, text in enumerate(texts):
        is_pair = isinstance(text, (tuple, list)) and len(text) == 2
        if not is_pair or not all(isinstance(part, str) for part in text):
            raise TypeError(f"text {place} is {text!r:.60}; expected all strings, or all pairs of strings")
    return [first for first, _ in texts], [second for _, second in texts]


def batch_rows(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Indices of the examples of each batch, by increasing length."""
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row].token_L))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
