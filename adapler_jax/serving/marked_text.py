"""Texts with the words marked that a model kept: colour on a terminal, [brackets] elsewhere."""

import itertools
import os
import sys
from collections.abc import Sequence

from adapler_jax.data.qa.questions import Question
from adapler_jax.inference.multiple_choice import ChoicePrediction
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.question_answerer import QAPrediction
from adapler_jax.io.messages import one_line

_COLOUR, _PLAIN = ("\x1b[1;32m", "\x1b[0m"), ("[", "]")
_PART_BREAK = " | "  # between the two texts of a pair
EMPTY_TEXT = "(empty text)"
_CUT = " ..."  # the model did not read on


def mark_kept(prediction: Prediction, *, layer: int = -1, colour: bool = False) -> str:
    """The text on one line, the words that the layer ran on marked; neighbours share a mark.

    What lies behind the last word that the model read is cut. Control characters become blanks.
    """
    parts = []
    for part, text in enumerate(prediction.texts):
        words = [
            (word, kept)
            for word, kept in zip(prediction.words, prediction.keep_NW[layer])
            if word.part == part
        ]
        cut = _CUT if prediction.truncated_text(part) else ""
        parts.append(_mark_part(text, words, colour=colour) + cut)
    return _PART_BREAK.join(parts)


def mark_of(stream) -> str:
    """How kept words are marked there, in words."""
    return "in colour" if has_colour(stream) else "in [brackets]"


def _mark_part(text: str, words, *, colour: bool) -> str:
    """One text up to its last word."""
    before, after = _COLOUR if colour else _PLAIN
    marked, done = [], 0
    for kept, run in itertools.groupby(words, key=lambda pair: bool(pair[1])):
        run = list(run)
        start, end = run[0][0].start, run[-1][0].end
        span = one_line(text[start:end])
        marked += [one_line(text[done:start]), f"{before}{span}{after}" if kept else span]
        done = end
    return "".join(marked).strip()


def mark_all(
    predictions: Sequence[Prediction],
    labels: Sequence[str] | None = None,
    *,
    layer: int = -1,
    colour: bool = False,
) -> str:
    """A paragraph a prediction: its label, the true one where `labels` gives it, tokens per layer, the marked text."""
    truths = (
        [f", labelled {label}" for label in labels]
        if labels is not None
        else [""] * len(predictions)
    )
    return "\n\n".join(
        f"{one_line(prediction.label)} ({prediction.probability:.0%}){one_line(truth)}, tokens per layer "
        f"{' '.join(map(str, prediction.num_tokens))}:\n{_told_text(prediction, layer, colour=colour)}"
        for prediction, truth in zip(predictions, truths, strict=True)
    )


def _told_text(prediction: Prediction, layer: int, *, colour: bool) -> str:
    """Return the marked text, with a word on an empty one and on one of which no word is kept."""
    text = mark_kept(prediction, layer=layer, colour=colour)
    if not any(part.strip() for part in prediction.texts):
        return EMPTY_TEXT
    if prediction.keep_NW[layer].any():
        return text
    return f"{text} ({'only [CLS] is' if prediction.num_tokens[layer] == 1 else 'no word is'} left)"


def mark_readings(
    pairs: Sequence[tuple[Question | None, QAPrediction]], *, layer: int = -1, colour: bool = False
) -> str:
    """A paragraph a question: the question, the answer, where a Question is given the accepted ones, and the text with
    the kept words marked."""
    return "\n\n".join(
        _mark_reading(question, reading, layer, colour=colour) for question, reading in pairs
    )


def _mark_reading(
    question: Question | None, reading: QAPrediction, layer: int, *, colour: bool
) -> str:
    """One of those paragraphs."""
    answer = f"{one_line(reading.text) or 'no answer'} ({reading.probability:.0%})"
    if question is not None:
        answer += f", accepted: {one_line(' / '.join(question.answers)) or 'no answer'}"
    text = _mark_part(
        reading.context, list(zip(reading.words, reading.keep_NW[layer])), colour=colour
    )
    if reading.words and not reading.keep_NW[layer].any():
        text += " (no word kept)"
    return f"{one_line(reading.question)}\n{answer}\n{text}"


def mark_choices(
    choices: Sequence[ChoicePrediction], *, layer: int = -1, colour: bool = False
) -> str:
    """Return a paragraph a question: the question, the chosen option, and the article with the
    kept words marked."""
    paragraphs = []
    for chosen in choices:
        prob, words = (
            chosen.probabilities[chosen.label],
            list(zip(chosen.words, chosen.keep_NW[layer])),
        )
        text = _mark_part(chosen.article, words, colour=colour) + (_CUT if chosen.is_cut else "")
        paragraphs.append(
            f"{one_line(chosen.question)}\n{one_line(chosen.text)} ({prob:.0%})\n{text}"
        )
    return "\n\n".join(paragraphs)


def print_readings(
    pairs: Sequence[tuple[Question, QAPrediction]], *, model: str = "the model", stream=None
) -> None:
    """Prints questions, answers and texts with the words marked that the last layer ran on."""
    stream = sys.stdout if stream is None else stream
    if pairs:
        print(f"words that {one_line(model)} kept {mark_of(stream)}:\n", file=stream)
        print(mark_readings(pairs, colour=has_colour(stream)) + "\n", file=stream)


def has_colour(stream) -> bool:
    """Whether a stream is a terminal whose user did not refuse colour (NO_COLOR)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_marked(
    predictions: Sequence[Prediction],
    labels: Sequence[str] | None = None,
    *,
    model: str = "the model",
    layer: int = -1,
    stream=None,
) -> None:
    """Prints texts with the words marked that the layer ran on, the last one by default; labels: the true ones."""
    stream = sys.stdout if stream is None else stream
    if predictions:
        print(f"words that {one_line(model)} kept {mark_of(stream)}:\n", file=stream)
        print(
            mark_all(predictions, labels, layer=layer, colour=has_colour(stream)) + "\n",
            file=stream,
        )
