"""Predict windows of rows with a saved model of any head, by one protocol."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from adapler_jax.inference.calibration import Request
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.embedder import Embedder
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import padded_batch_size
from adapler_jax.inference.long_texts import TRUNCATE, check_no_windows
from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.inference.multiple_choice import MultipleChoice
from adapler_jax.inference.number_models import activate
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.inference.reranker import Regressor
from adapler_jax.inference.speedups import Budget
from adapler_jax.inference.text_reader import QAPrediction
from adapler_jax.inference.token_classifier import TokenClassifier
from adapler_jax.serving.highlight import (
    highlight_answers,
    highlight_choices,
    highlight_predictions,
)
from adapler_jax.serving.prediction_files import (
    IS_CUT,
    IS_ESCALATED,
    Columns,
    answer_column_names,
    choice_column_names,
    column_names,
    columns_of_answers,
    columns_of_choices,
    columns_of_label_predictions,
    columns_of_label_sets,
    columns_of_predictions,
    columns_of_probs,
)
from adapler_jax.serving.prediction_files import LABELS as LABEL_COLUMN
from adapler_jax.serving.prediction_inputs import (
    ANSWERS,
    ENTITIES,
    LABELS,
    OPTIONS,
    SCORES,
    VECTORS,
)
from adapler_jax.serving.token_predictors import (
    EntityPredictor,
    Predicted,
    Predictor,
    VectorPredictor,
    rounded,
)

Prediction = TypeVar("Prediction")
Highlight = Callable[..., str]  # (predictions, colour=) -> texts with highlighted words


class ModelSettings(NamedTuple):
    """How a model predicts."""

    batch_size: int = 32
    dtype: Any = "float32"
    driver: str = "auto"
    threshold: float | None = None  # see `Classifier.load`
    always_answers: bool = False  # see `QuestionAnswerer.load`
    long_texts: str = TRUNCATE  # see `Classifier.predict`
    budget: float | None = None  # see `Classifier.predict`
    speedup: float | None = None  # in place of a budget
    certified: bool = False  # in place of both
    aggregation: str | None = None  # see `TokenClassifier.predict`


class Shown(NamedTuple):
    """The parts of predictions that are shown next to labels or answers."""

    with_kept: bool = False  # columns of kept words
    highlights: bool = False  # texts with highlighted words
    colour: bool = False  # highlight by colour


class ClassPredictor:
    """Classify texts; tokens are made ahead of the model."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        batch_size: int = 32,
        request: Request | None = None,
        shown: Shown,
    ):
        """Take a loaded classifier, its batch size, the speed, and the parts to show."""
        self._classifier, self._batch_size, self._shown = classifier, batch_size, shown
        self._request = request or Request()
        self._with_words = shown.with_kept or shown.highlights
        self._num_rows = 1

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the output columns, in their order."""
        names = column_names(self._classifier.class_names, with_words=self._shown.with_kept)
        return (*names, IS_ESCALATED) if self._request.margin else names

    def encode(self, texts: list) -> Sequence[Any]:
        """Tokenize texts."""
        classifier = self._classifier
        encode = classifier.encode if self._with_words else classifier.encode_tokens
        return encode(texts)

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return labels and probabilities."""
        # The last, shorter window keeps the batch size, so that no program is compiled for it.
        num_rows = padded_batch_size(len(encoded), self._batch_size)
        self._num_rows = max(self._num_rows, num_rows)
        classifier = self._classifier
        if self._with_words:
            predictions = classifier.predict_encoded(
                encoded, num_rows=self._num_rows, request=self._request
            )
            columns = columns_of_predictions(classifier.class_names, predictions)
            return Predicted(columns, _highlighted(highlight_predictions, predictions, self._shown))
        probs_NC, escalated = classifier.probs_and_escalated(
            encoded, num_rows=self._num_rows, request=self._request
        )
        is_cut = [tokens.is_cut for tokens in encoded]
        names, threshold = classifier.class_names, classifier.threshold
        columns = columns_of_probs(names, probs_NC, is_cut, threshold=threshold)
        is_escalated = np.isin(np.arange(len(encoded)), escalated).tolist()
        return Predicted(columns | {IS_ESCALATED: is_escalated})


class LabelPredictor:
    """Give texts their labels; tokens are made ahead of the model."""

    def __init__(self, classifier: MultiLabelClassifier, *, batch_size: int = 32, shown: Shown):
        """Take a loaded classifier, its batch size, and the parts to show."""
        self._classifier, self._batch_size, self._shown = classifier, batch_size, shown
        self._with_words = shown.with_kept or shown.highlights

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the output columns, in their order."""
        names = self._classifier.class_names
        return column_names(names, with_words=self._shown.with_kept, label=LABEL_COLUMN)

    def encode(self, texts: list) -> Sequence[Any]:
        """Tokenize texts."""
        classifier = self._classifier
        encode = classifier.encode if self._with_words else classifier.encode_tokens
        return encode(texts)

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return labels and probabilities."""
        classifier = self._classifier
        if self._with_words:
            predictions = classifier.predict_encoded(encoded, self._batch_size)
            columns = columns_of_label_predictions(classifier.class_names, predictions)
            return Predicted(columns, _highlighted(highlight_predictions, predictions, self._shown))
        probs_NC = classifier.probs_of_tokens(encoded, self._batch_size)
        labels = [classifier.labels_of(prob_C) for prob_C in probs_NC]
        is_cut = [tokens.is_cut for tokens in encoded]
        names = classifier.class_names
        return Predicted(columns_of_label_sets(names, labels, probs_NC, is_cut))


class ScorePredictor:
    """Give texts or pairs their numbers; tokens are made ahead of the model."""

    def __init__(self, regressor: Regressor, *, batch_size: int = 32, budget: Budget = None):
        """Take a loaded regressor, its batch size, and the budget of all texts.

        Raises:
          ValueError: an output has the name of the column of cut texts.
        """
        if IS_CUT in regressor.output_names:
            raise ValueError(
                f"the model has an output named {IS_CUT}, as the column that says which texts were "
                "cut; give it another name in id2label of its config.json"
            )
        self._regressor, self._batch_size, self._budget = regressor, batch_size, budget

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the output columns, in their order."""
        return (*self._regressor.output_names, IS_CUT)

    def encode(self, texts: list) -> Sequence[Any]:
        """Tokenize texts or pairs."""
        return self._regressor.encode_tokens(texts)

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return a column for each number."""
        logit_NC = self._regressor.outputs(encoded, self._batch_size, self._budget)
        number_CN = activate(logit_NC, self._regressor.activation).T.tolist()
        scores = [[rounded(number) for number in number_N] for number_N in number_CN]
        columns = *scores, [tokens.is_cut for tokens in encoded]
        return Predicted(dict(zip(self.column_names, columns, strict=True)))


class ListPredictor(Generic[Prediction]):
    """Predict whole rows by one function, for models whose tokens depend on several texts."""

    def __init__(
        self,
        names: tuple[str, ...],
        predict: Callable[[Sequence[Any]], list[Prediction]],
        columns_of: Callable[[list[Prediction]], Columns],
        *,
        highlight: Highlight,
        shown: Shown,
    ):
        """Take the functions of a model.

        Args:
          names: of the output columns.
          predict: rows to predictions.
          columns_of: predictions to columns.
          highlight: predictions to texts with highlighted words.
          shown: the parts to show.
        """
        self._names, self._predict, self._columns_of = names, predict, columns_of
        self._highlight, self._shown = highlight, shown

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the output columns, in their order."""
        return self._names

    def encode(self, texts: list) -> Sequence[Any]:
        """Return the rows unchanged."""
        return texts

    def predict(self, encoded: Sequence[Any]) -> Predicted:
        """Return the predictions of the rows."""
        predictions = self._predict(encoded)
        highlighted = _highlighted(self._highlight, predictions, self._shown)
        return Predicted(self._columns_of(predictions), highlighted)


def _highlighted(highlight: Highlight, predictions: Sequence[Any], shown: Shown) -> str:
    """Return texts with highlighted words if they are shown."""
    return highlight(predictions, colour=shown.colour) if shown.highlights else ""


def load_predictor(model, use: str, settings: ModelSettings, shown: Shown) -> Predictor:
    """Load a saved model as a predictor.

    Args:
      model: directory of a saved model.
      use: as `use_of` returns it.
      settings: of the model.
      shown: the parts of predictions to show.
    """
    if use in (VECTORS, ENTITIES):
        return _load_token_model(model, use, settings)
    if use == ANSWERS:
        return _load_answers(model, settings, shown)
    if use == OPTIONS:
        return _load_options(model, settings, shown)
    if use == SCORES:
        regressor = Regressor.load(model, dtype=settings.dtype, driver=settings.driver)
        budget = regressor.resolve(settings.budget, settings.speedup, certified=settings.certified)
        return ScorePredictor(regressor, batch_size=settings.batch_size, budget=budget)
    if use == LABELS:
        labeller = MultiLabelClassifier.load(
            model, threshold=settings.threshold, dtype=settings.dtype, driver=settings.driver
        )
        return LabelPredictor(labeller, batch_size=settings.batch_size, shown=shown)
    return _load_classes(model, settings, shown)


def _load_token_model(model, use: str, settings: ModelSettings) -> Predictor:
    """Load a model of vectors, or one that gives tags to tokens."""
    options: EngineOptions = {"dtype": settings.dtype, "driver": settings.driver}
    if use == VECTORS:
        return VectorPredictor(Embedder.load(model, **options), batch_size=settings.batch_size)
    tagger = TokenClassifier.load(model, **options)
    return EntityPredictor(tagger, settings.batch_size, settings.aggregation)


def _load_answers(model, settings: ModelSettings, shown: Shown) -> Predictor:
    """Load a model that answers questions."""
    answerer = QuestionAnswerer.load(
        model,
        always_answers=settings.always_answers,
        dtype=settings.dtype,
        driver=settings.driver,
    )

    def predict(rows: Sequence[Any]) -> list[QAPrediction]:
        return answerer.answer_all(rows, batch_size=settings.batch_size)

    names = answer_column_names(with_words=shown.with_kept)
    return ListPredictor(
        names, predict, columns_of_answers, highlight=_highlight_answers, shown=shown
    )


def _load_options(model, settings: ModelSettings, shown: Shown) -> Predictor:
    """Load a model that chooses among options."""
    chooser = MultipleChoice.load(model, dtype=settings.dtype, driver=settings.driver)

    def predict(rows: Sequence[Any]) -> list:
        return chooser.choose_all(rows, batch_size=settings.batch_size)

    names = choice_column_names(with_words=shown.with_kept)
    return ListPredictor(
        names, predict, columns_of_choices, highlight=highlight_choices, shown=shown
    )


def _load_classes(model, settings: ModelSettings, shown: Shown) -> Predictor:
    """Load a model that classifies texts."""
    classifier = Classifier.load(
        model, threshold=settings.threshold, dtype=settings.dtype, driver=settings.driver
    )
    request = classifier.resolve(settings.budget, settings.speedup, certified=settings.certified)
    if settings.long_texts == TRUNCATE:
        return ClassPredictor(
            classifier, batch_size=settings.batch_size, request=request, shown=shown
        )
    check_no_windows(settings.certified, settings.long_texts)

    def predict(rows: Sequence[Any]) -> list:
        return classifier.predict(
            rows,
            batch_size=settings.batch_size,
            long_texts=settings.long_texts,
            budget=request.budget,
        )

    def columns_of(predictions: list) -> Columns:
        return columns_of_predictions(classifier.class_names, predictions)

    names = column_names(classifier.class_names, with_words=shown.with_kept)
    return ListPredictor(names, predict, columns_of, highlight=highlight_predictions, shown=shown)


def _highlight_answers(predictions: Sequence[QAPrediction], *, colour: bool) -> str:
    """Return the texts of answers with highlighted words; the accepted answers are unknown."""
    return highlight_answers([(None, prediction) for prediction in predictions], colour=colour)
