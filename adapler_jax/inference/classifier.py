"""A saved model as its users see it: texts in, labels and kept words out."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from adapler_jax.export.jax_export import use_programs
from adapler_jax.export.signing import may_run_programs
from adapler_jax.inference.engine import AUTO
from adapler_jax.inference.explanation import Explanation, reached_layer
from adapler_jax.inference.loading import (
    check_request,
    open_model,
    padded_batch_size,
    prepare_model,
    side_of,
    sorted_batches,
    warm_up,
)
from adapler_jax.inference.long_texts import check_long_texts, encode_windows, merge_probs
from adapler_jax.inference.model_kind import check_classifies
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.processes import Portable, with_origin
from adapler_jax.inference.texts import split_pairs
from adapler_jax.inference.words import Encoded, Tokens, encode_tokens, encode_words
from adapler_jax.metrics.classification import THRESHOLD, check_threshold, decide, softmax
from adapler_jax.types import Batch, Params, Trace
from adapler_jax.weights.save import CONFIG_FILE, Saved


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier(Portable):
    """A model that classifies texts. Make one with `Classifier.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Any = dataclasses.field(repr=False)
    class_names: tuple[str, ...]
    num_layers: int
    max_length: int
    lengths: tuple[int, ...]  # to which batches are padded
    site_layers: tuple[
        int, ...
    ]  # layers, numbers from 0, at which the model scores tokens and drops them
    threshold: float | None = (
        None  # of two classes, the probability from which the second is the label
    )
    truncation_side: str = (
        "right"  # where texts that are too long lose tokens: right, left, or middle
    )
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls,
        directory,
        *,
        buckets: Sequence[int] | None = None,
        dtype=jnp.float32,
        driver: str = AUTO,
        autotune_table=None,
        expected_speedup: float | None = None,
        compilation_cache: str = "",
        programs: bool | None = None,
        threshold: float | None = None,
    ) -> "Classifier":
        """Reads a saved model directory. Raises ValueError where it is damaged, or longer than all buckets.

        Args: as in `make_engine`; dtype: "float32", "bfloat16", or "auto" for bfloat16 where this device is faster with
        it and `evaluate.py` found that the model's answers agree. compilation_cache: where compiled programs are kept
        for later processes, as in `use_compilation_cache`; "none" for nowhere. programs: whether programs that this
        user put into the directory by `export_model` for the same arguments are run; they give the same answers,
        sooner. None: where the environment's ADAPLER_PROGRAMS is 1. Nothing else in a directory is ever run.
        threshold: of two classes, the label is the second where its probability is at least this; None for the
        threshold that the model was saved with, or the likeliest class.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        check_classifies(saved)
        threshold = threshold_of(saved, threshold)
        loaded = prepare_model(
            saved,
            buckets=buckets,
            dtype=dtype,
            driver=driver,
            autotune_table=autotune_table,
            expected_speedup=expected_speedup,
        )
        run, params = loaded.run, loaded.params
        if may_run_programs(programs):
            run, params = use_programs(
                run, saved, params, buckets=buckets, dtype=loaded.dtype, driver=driver
            )
        return cls(
            run=run,
            params=params,
            tokenizer=loaded.tokenizer,
            class_names=saved.class_names,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            dtype=loaded.dtype,
            site_layers=tuple(site.layer for site in loaded.pruner.sites),
            threshold=threshold,
            truncation_side=side_of(saved, loaded.tokenizer_side),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compiles, or reads back, every program that `predict` with this batch_size can ask for; returns the seconds.

        Afterwards no request compiles anything, whatever the number and length of its texts.
        Raises ValueError on a batch_size below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def predict(
        self,
        texts: Iterable[str | tuple[str, str]],
        *,
        batch_size: int = 32,
        threshold: float | None = None,
        long_texts: str = "truncate",
        stride: int | None = None,
    ) -> list[Prediction]:
        """Classifies texts, or pairs of texts, in the given order; threshold: as in `load`, None for the one there.

        Texts of like length share a batch. Longer texts than the model's length are cut, or read in windows. Fewer
        texts than batch_size run in a batch of the next power of two; the first call with a batch shape compiles,
        unless `warm_up` did.

        Args: texts: a list, tuple, array, column or generator of strings, or of pairs: tuples, lists or dicts with
        text and text_pair. long_texts: "truncate"; or "mean" or "max", where a text that is too long is read in
        windows, all of it: probabilities are the mean over its windows, or those of the window that is surest.
        stride: tokens from the start of a window to the start of the next; None for half of the room for text.

        Raises TypeError where texts is no list or mixes strings and pairs; ValueError on a batch_size or stride below
        1, or another value of long_texts.
        """
        check_request(batch_size)
        check_threshold(threshold, len(self.class_names))
        decider = self if threshold is None else dataclasses.replace(self, threshold=threshold)
        if check_long_texts(long_texts, stride):
            return decider._predict_windows(texts, batch_size, long_texts, stride)
        encoded = decider.encode(texts)
        return decider.predict_encoded(
            encoded, num_rows=padded_batch_size(len(encoded), batch_size)
        )

    def predict_probs(
        self, texts: Sequence[str | tuple[str, str]], *, batch_size: int = 32
    ) -> np.ndarray:
        """Probabilities float32 [texts, classes] as `predict` gives them, with much less work beside the model."""
        check_request(batch_size)
        tokens = self.encode(texts, with_words=False)
        return self.predict_probs_encoded(
            tokens, num_rows=padded_batch_size(len(tokens), batch_size)
        )

    def explain(self, text: str | tuple[str, str]) -> Explanation:
        """What the model made of one text or pair, token by token; see `explain_all`."""
        return self.explain_all([text])[0]

    def explain_all(
        self, texts: Sequence[str | tuple[str, str]], *, batch_size: int = 32
    ) -> list[Explanation]:
        """Classifies texts as `predict` does, and tells the score of every token at every layer.

        Raises as `predict` does, and ValueError where the model drops no tokens.
        """
        if not self.site_layers:
            raise ValueError(
                "the model drops no tokens, so there is nothing to explain; load one that was pruned"
            )
        check_request(batch_size)
        encoded = self.encode(texts)
        explanations: list[Explanation | None] = [None] * len(encoded)
        for row, prob_C, keep_NL, score_NL in self._run_rows(
            encoded, padded_batch_size(len(encoded), batch_size)
        ):
            explanations[row] = Explanation(
                prediction=self._prediction([encoded[row]], prob_C, [keep_NL]),
                tokens=tuple(
                    self.tokenizer.id_to_token(token) for token in encoded[row].token_L.tolist()
                ),
                word_L=encoded[row].word_L,
                keep_NL=keep_NL,
                score_NL=np.where(reached_layer(keep_NL), score_NL, 0.0).astype(np.float32),
                site_layers=self.site_layers,
            )
        return explanations

    def encode(
        self, texts: Sequence[str | tuple[str, str]], *, with_words: bool = True
    ) -> list[Encoded] | list[Tokens]:
        """Tokenizes texts or pairs for `answer`, or without words for `score`; a thread may do so beside the model.

        Raises TypeError as `predict`.
        """
        encode = encode_words if with_words else encode_tokens
        limits = {"max_length": self.max_length, "truncation_side": self.truncation_side}
        return encode(self.tokenizer, *split_pairs(texts), **limits)

    def predict_encoded(self, encoded: Sequence[Encoded], *, num_rows: int) -> list[Prediction]:
        """The second half of `predict`, in batches of num_rows."""
        predictions: list[Prediction | None] = [None] * len(encoded)
        for row, prob_C, keep_NL, _ in self._run_rows(encoded, num_rows):
            predictions[row] = self._prediction([encoded[row]], prob_C, [keep_NL])
        return predictions

    def predict_probs_encoded(self, tokens: Sequence[Tokens], *, num_rows: int) -> np.ndarray:
        """The second half of `predict_probs`, in batches of num_rows."""
        probs_NC = np.zeros((len(tokens), len(self.class_names)), np.float32)
        for rows, _, probs_BC, _ in self._run_batches(tokens, num_rows):
            probs_NC[rows] = probs_BC
        return probs_NC

    def _predict_windows(
        self, texts: Iterable, batch_size: int, long_texts: str, stride: int | None
    ):
        """`predict` by windows; a text that fits has one."""
        examples = encode_windows(
            self.tokenizer, *split_pairs(texts), max_length=self.max_length, stride=stride
        )
        rows = [row for example in examples for row in example]
        num_rows = padded_batch_size(len(rows), batch_size) if rows else 1
        answers = {row: answer for row, *answer, _ in self._run_rows(rows, num_rows)}
        first, predictions = 0, []
        for example in examples:
            found = [answers[first + place] for place in range(len(example))]
            prob_C = merge_probs(np.stack([prob_C for prob_C, _ in found]), long_texts)
            predictions.append(self._prediction(example, prob_C, [keep_NL for _, keep_NL in found]))
            first += len(example)
        return predictions

    def _run_rows(self, encoded: Sequence[Encoded], num_rows: int) -> Iterator[tuple]:
        """Yields row, probabilities [C], keep_NL, and score_NL or None of every example, batch by batch."""
        for rows, batch, probs_BC, trace in self._run_batches(encoded, num_rows):
            keep_NBL = np.broadcast_to(batch.valid_BL, (self.num_layers, *batch.valid_BL.shape))
            if trace.survival_NBL is not None:
                keep_NBL = np.asarray(trace.survival_NBL) > 0
            score_NBL = None if trace.score_NBL is None else np.asarray(trace.score_NBL)
            for place, row in enumerate(rows):
                cut = np.s_[:, place, : len(encoded[row].token_L)]
                yield (
                    row,
                    probs_BC[place],
                    keep_NBL[cut],
                    None if score_NBL is None else score_NBL[cut],
                )

    def _run_batches(
        self, tokens: Sequence[Encoded | Tokens], num_rows: int
    ) -> Iterator[tuple[np.ndarray, Batch, np.ndarray, Trace]]:
        """Yields which examples a batch holds, the batch, filled up to num_rows, their probabilities, and the trace."""
        rows = [row.token_L for row in tokens], [row.segment_L for row in tokens]
        for row_B, batch in sorted_batches(*rows, lengths=self.lengths, num_rows=num_rows):
            logits_BC, trace = self.run(self.params, batch)
            yield row_B, batch, softmax(np.asarray(logits_BC)[: len(row_B)]), trace

    def _prediction(
        self, windows: Sequence[Encoded], prob_C, keeps: Sequence[np.ndarray]
    ) -> Prediction:
        """The answer for one text; a word is there while one of its pieces is, in any window. keeps: bool [layers, L]
        of each window."""
        example = windows[0]
        keep_NW = np.zeros((self.num_layers, len(example.words)), bool)
        for window, keep_NL in zip(windows, keeps):
            layer, place = np.nonzero(keep_NL & (window.word_L >= 0))
            keep_NW[layer, window.word_L[place]] = True
        num_tokens = np.sum([keep_NL.sum(axis=-1) for keep_NL in keeps], axis=0)
        best = int(decide(prob_C, self.threshold))
        return Prediction(
            texts=example.texts,
            label=self.class_names[best],
            probability=float(prob_C[best]),
            probabilities={name: float(prob) for name, prob in zip(self.class_names, prob_C)},
            words=example.words,
            keep_NW=keep_NW,
            num_tokens=tuple(num_tokens.tolist()),
            is_cut=example.is_cut,
        )


def threshold_of(saved: Saved, threshold: float | None) -> float | None:
    """Return the decision threshold that is asked for, else the saved one. Raises ValueError where it is none."""
    try:
        own = saved.extra.get(THRESHOLD) if threshold is None else threshold
        check_threshold(own, len(saved.class_names))
    except ValueError as error:
        place = f"{saved.directory / CONFIG_FILE}: extra.{THRESHOLD}: " if threshold is None else ""
        raise ValueError(f"{place}{error}") from error
    return None if own is None else float(own)
