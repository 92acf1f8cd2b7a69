"""Highlight the words that a model kept: in colour on a terminal, in [brackets] elsewhere."""

import itertools
import os
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from adapler_jax.data.qa.questions import Question
from adapler_jax.inference.multiple_choice import ChoicePrediction
from adapler_jax.inference.prediction import MultiLabelPrediction, Prediction, TextPrediction
from adapler_jax.inference.text_reader import QAPrediction
from adapler_jax.inference.words import Word
from adapler_jax.io.messages import one_line

_COLOUR = ("\x1b[1;32m", "\x1b[0m")
_BRACKETS = ("[", "]")
_PART_BREAK = " | "  # between the two texts of a pair
EMPTY_TEXT = "(empty text)"
_CUT = " ..."  # follows a truncated text


def highlight_kept(prediction: TextPrediction, *, layer: int = -1, colour: bool = False) -> str:
    """Return the text on one line with the kept words of a layer highlighted.

    Adjacent words share one highlight. The text ends after the last word of the model's input.
    Control characters become blanks.
    """
    parts = []
    keep_W = prediction.keep_NW[layer]
    for part, text in enumerate(prediction.texts):
        words = [pair for pair in zip(prediction.words, keep_W) if pair[0].part == part]
        cut = _CUT if prediction.truncated_text(part) else ""
        parts.append(_highlight_part(text, words, colour=colour) + cut)
    return _PART_BREAK.join(parts)


def highlight_style(stream) -> str:
    """Return a phrase that says how a stream shows kept words."""
    return "in colour" if has_colour(stream) else "in [brackets]"


def _highlight_part(text: str, words: Iterable[tuple[Word, bool]], *, colour: bool) -> str:
    """Return one text up to its last word, with kept words highlighted."""
    before, after = _COLOUR if colour else _BRACKETS
    parts, done = [], 0
    for kept, group in itertools.groupby(words, key=lambda pair: bool(pair[1])):
        run = list(group)
        start, end = run[0][0].start, run[-1][0].end
        span = one_line(text[start:end])
        parts += [one_line(text[done:start]), f"{before}{span}{after}" if kept else span]
        done = end
    return "".join(parts).strip()


def highlight_predictions(
    predictions: Sequence[Prediction | MultiLabelPrediction],
    labels: Sequence[str] | None = None,
    *,
    layer: int = -1,
    colour: bool = False,
) -> str:
    """Return a paragraph for each prediction: label, tokens of each layer, highlighted text.

    Args:
      predictions: of texts.
      labels: true classes, which follow the predicted ones; None for none.
      layer: whose kept words are highlighted.
      colour: highlight by colour.
    """
    truths = [""] * len(predictions)
    if labels is not None:
        truths = [one_line(f", labelled {label}") for label in labels]
    paragraphs = []
    for prediction, truth in zip(predictions, truths, strict=True):
        label = _answer_of(prediction) + truth
        counts = " ".join(map(str, prediction.num_tokens))
        text = _annotated_text(prediction, layer, colour=colour)
        paragraphs.append(f"{label}, tokens per layer {counts}:\n{text}")
    return "\n\n".join(paragraphs)


def _answer_of(prediction: Prediction | MultiLabelPrediction) -> str:
    """Return the label and its probability, or all labels of a text."""
    if isinstance(prediction, Prediction):
        return f"{one_line(prediction.label)} ({prediction.probability:.0%})"
    found = [f"{name} ({prediction.probabilities[name]:.0%})" for name in prediction.labels]
    return one_line(", ".join(found)) or "no label"


def _annotated_text(prediction: TextPrediction, layer: int, *, colour: bool) -> str:
    """Return the highlighted text, with a note if it is empty or no word is kept.

    Where the layer has no word, the last layer before it that has one is highlighted.
    """
    if not any(part.strip() for part in prediction.texts):
        return EMPTY_TEXT
    if prediction.keep_NW[layer].any():
        return highlight_kept(prediction, layer=layer, colour=colour)
    left = "only [CLS] is left" if prediction.num_tokens[layer] == 1 else "no word is left"
    with_words = np.flatnonzero(prediction.keep_NW[:layer].any(axis=1))
    if not with_words.size or prediction.keep_NW[with_words[-1]].all():
        return f"{highlight_kept(prediction, layer=layer, colour=colour)} ({left})"
    # A model that keeps [CLS] alone in its last layer would show no word of any text.
    last = int(with_words[-1])
    text = highlight_kept(prediction, layer=last, colour=colour)
    return f"{text} (words of layer {last + 1}; then {left})"


def highlight_answers(
    pairs: Sequence[tuple[Question | None, QAPrediction]], *, layer: int = -1, colour: bool = False
) -> str:
    """Return a paragraph for each question: the question, the answer, the highlighted text.

    Args:
      pairs: a Question, whose accepted answers are shown, or None; and the prediction.
      layer: whose kept words are highlighted.
      colour: highlight by colour.
    """
    return "\n\n".join(
        _highlight_answer(question, prediction, layer, colour=colour)
        for question, prediction in pairs
    )


def _highlight_answer(
    question: Question | None, prediction: QAPrediction, layer: int, *, colour: bool
) -> str:
    """Return the paragraph of one question."""
    answer = f"{one_line(prediction.text) or 'no answer'} ({prediction.probability:.0%})"
    if question is not None:
        answer += f", accepted: {one_line(' / '.join(question.answers)) or 'no answer'}"
    words = zip(prediction.words, prediction.keep_NW[layer])
    text = _highlight_part(prediction.context, words, colour=colour)
    if prediction.words and not prediction.keep_NW[layer].any():
        text += " (no word kept)"
    return f"{one_line(prediction.question)}\n{answer}\n{text}"


def highlight_choices(
    predictions: Sequence[ChoicePrediction], *, layer: int = -1, colour: bool = False
) -> str:
    """Return a paragraph for each question: the question, the option, the highlighted article."""
    paragraphs = []
    for prediction in predictions:
        probability = prediction.probabilities[prediction.label]
        words = zip(prediction.words, prediction.keep_NW[layer])
        text = _highlight_part(prediction.article, words, colour=colour)
        cut = _CUT if prediction.is_cut else ""
        option = f"{one_line(prediction.text)} ({probability:.0%})"
        paragraphs.append(f"{one_line(prediction.question)}\n{option}\n{text}{cut}")
    return "\n\n".join(paragraphs)


def has_colour(stream) -> bool:
    """Return whether a stream is a terminal, and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_answers(
    pairs: Sequence[tuple[Question, QAPrediction]], *, model: str = "the model", stream=None
) -> None:
    """Print questions, answers and texts with the words that the last layer kept highlighted."""
    stream = sys.stdout if stream is None else stream
    if pairs:
        _print_title(model, stream)
        print(highlight_answers(pairs, colour=has_colour(stream)) + "\n", file=stream)


def print_predictions(
    predictions: Sequence[Prediction],
    labels: Sequence[str] | None = None,
    *,
    model: str = "the model",
    layer: int = -1,
    stream=None,
) -> None:
    """Print predictions by `highlight_predictions` under a title.

    Args:
      predictions: of texts.
      labels: true classes.
      model: its name in the title.
      layer: whose kept words are highlighted.
      stream: None for standard output.
    """
    stream = sys.stdout if stream is None else stream
    if predictions:
        _print_title(model, stream)
        colour = has_colour(stream)
        text = highlight_predictions(predictions, labels, layer=layer, colour=colour)
        print(text + "\n", file=stream)


def _print_title(model: str, stream) -> None:
    """Print the line above highlighted texts."""
    print(f"words that {one_line(model)} kept {highlight_style(stream)}:\n", file=stream)
