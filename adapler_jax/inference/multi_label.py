"""A saved model that gives a text any number of labels, as its users see it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.heads import MULTI_LABEL
from adapler_jax.inference.classifier import Texts
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.label_sets import (
    Threshold,
    make_label_prediction,
    names_of,
    saved_thresholds,
    with_thresholds,
)
from adapler_jax.inference.loading import (
    check_request,
    open_model,
    padded_batch_size,
    prepare_model,
    truncation_side_of,
    warm_up,
    with_origin,
)
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.prediction import MultiLabelPrediction
from adapler_jax.inference.processes import Portable
from adapler_jax.inference.rows import RowRunner
from adapler_jax.inference.words import Encoded, Tokens, encode_tokens, encode_words, read_texts
from adapler_jax.metrics.classification import sigmoid
from adapler_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class MultiLabelClassifier(Portable):
    """A model with a yes or no for each label. Make one with `MultiLabelClassifier.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    class_names: tuple[str, ...]  # the labels, in the order of the logits
    thresholds: tuple[float, ...]  # of the probability of each label
    num_layers: int
    max_length: int  # token slots
    lengths: tuple[int, ...]  # padded lengths of batches
    truncation_side: str = "right"  # that loses the tokens of long texts: right, left or middle
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls,
        directory,
        *,
        compilation_cache: str = "",
        threshold: Threshold = None,
        **options: Unpack[EngineOptions],
    ) -> "MultiLabelClassifier":
        """Load a model.

        Args:
          directory: as in `Classifier.load`.
          compilation_cache: as in `Classifier.load`.
          threshold: probability from which a text has a label: one for all labels, or a dict with
            one for each label that it names. Other labels keep the thresholds that training chose
            on validation, or 0.5 where the model has none.
          **options: as in `Classifier.load`.

        Raises:
          ValueError: the model is damaged, has no labels, or a threshold is wrong.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head.name != MULTI_LABEL.name:
            raise ValueError(
                f"{directory} holds a model with the head {saved.head.name!r}, which does not give "
                f"several labels to a text; {loader_hint(saved)}"
            )
        own = saved_thresholds(saved.extra, saved.class_names, where=directory)
        thresholds = with_thresholds(own, threshold, saved.class_names)
        loaded = prepare_model(saved, **options)
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            class_names=saved.class_names,
            thresholds=thresholds,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            truncation_side=truncation_side_of(saved, loaded.tokenizer_side),
            dtype=loaded.dtype,
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program for batches up to this size.

        Args:
          batch_size: as in `predict`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def predict(
        self, texts: Texts, *, batch_size: int = 32, threshold: Threshold = None
    ) -> list[MultiLabelPrediction]:
        """Return the labels of texts, or of pairs of texts. Long texts are cut.

        Args:
          texts: as in `Classifier.predict`.
          batch_size: texts in a batch; texts of similar length share one.
          threshold: as in `load`; None for the classifier's own.

        Returns:
          A prediction for each text, in their order.

        Raises:
          TypeError: texts is no list, or mixes strings and pairs.
          ValueError: an argument has another value.
        """
        check_request(batch_size)
        thresholds = with_thresholds(self.thresholds, threshold, self.class_names)
        return self.predict_encoded(self.encode(texts), batch_size, thresholds=thresholds)

    def predict_probs(self, texts: Texts, *, batch_size: int = 32) -> np.ndarray:
        """Return the probability of each label, float32 [texts, labels].

        Arguments are as in `predict`.
        """
        check_request(batch_size)
        return self.probs_of_tokens(self.encode_tokens(texts), batch_size)

    def encode(self, texts: Texts) -> list[Encoded]:
        """Tokenize texts or pairs with their words, for `predict_encoded`."""
        return read_texts(self, encode_words, texts)

    def encode_tokens(self, texts: Texts) -> list[Tokens]:
        """Tokenize texts or pairs without their words, for `probs_of_tokens`."""
        return read_texts(self, encode_tokens, texts)

    def predict_encoded(
        self,
        encoded: Sequence[Encoded],
        batch_size: int,
        *,
        thresholds: Sequence[float] | None = None,
    ) -> list[MultiLabelPrediction]:
        """Return predictions for the texts of `encode`; None: the classifier's thresholds."""
        num_rows = padded_batch_size(len(encoded), batch_size)
        return [
            make_label_prediction(
                encoded[result.row],
                result.prob_C,
                result.keep_NL,
                self.class_names,
                self.thresholds if thresholds is None else thresholds,
            )
            for result in self._runner.results(encoded, num_rows)
        ]

    def probs_of_tokens(self, tokens: Sequence[Tokens], batch_size: int) -> np.ndarray:
        """Return the probabilities for the texts of `encode_tokens`, float32 [texts, labels]."""
        num_rows = padded_batch_size(len(tokens), batch_size)
        return self._runner.probs(tokens, num_rows, None, num_classes=len(self.class_names))[0]

    def labels_of(self, prob_C: np.ndarray) -> tuple[str, ...]:
        """Return the labels of a text by their probabilities, in the order of the logits."""
        return names_of(prob_C, self.class_names, self.thresholds)

    @property
    def _runner(self) -> RowRunner:
        """Return what runs rows of tokens in batches."""
        return RowRunner(self.run, self.params, self.lengths, self.num_layers, None, sigmoid)
