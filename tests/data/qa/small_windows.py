"""Cut questions into windows of 9 slots, and read the answers back."""

from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.windows import iter_windows, join_windows

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CLS, SEP = 2, 3
LETTERS = "abcdefghij"  # each a word of its own, numbers from 5


def ask(context, *spans, question="a b"):
    """A question with these character spans."""
    return Question(
        "q", question, context, tuple(context[start:end] for start, end in spans), spans
    )


SETTINGS = {"max_length": 9, "doc_stride": 2, "max_question_tokens": 2, "max_answers": 2}


def cut(questions, core, **changes):
    """Cut windows of 9 slots: 3 special ones, 2 of the question and 4 of the text."""
    settings = SETTINGS | changes
    return join_windows(iter_windows(questions, core, **settings))


def texts_of(windows, context):
    """The texts of the accepted answers, by row."""
    found = []
    for row in range(len(windows)):
        first = windows.context_first[row]
        slots = [(a - first, b - first) for a, b in windows.span_RA2[row] if a > 0]
        found.append([context[windows.starts[row][a] : windows.ends[row][b]] for a, b in slots])
    return found
