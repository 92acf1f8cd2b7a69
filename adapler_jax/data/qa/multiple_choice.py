"""Multiple choice: questions about an article and their options, from RACE, DREAM and files of these forms, to rows."""

import dataclasses
import pathlib
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.sources.files import split_name
from adapler_jax.data.sources.items import check_text, has_split, open_items, split_file
from adapler_jax.data.sources.load import load_source
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.sources.tfds import open_tfds
from adapler_jax.data.sources.values import as_integer
from adapler_jax.data.split_names import SPLITS
from adapler_jax.data.tokenization.templates import (
    fill_template,
    join_chunks,
    read_template,
    token_rows,
)
from adapler_jax.io.messages import shown

RACE_LEVELS = ("middle", "high")
_LETTERS = tuple(string.ascii_uppercase)  # that an answer may be
_SUFFIXES = (".jsonl", ".json")
_CHUNK = 256  # questions that are tokenized at once; those of one article stand together, and it is tokenized once


@dataclasses.dataclass(frozen=True)
class MultipleChoiceQuestion:
    """A question about an article with its options; `label` counts the right one from 0."""

    id: str
    article: str
    question: str
    options: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class MultipleChoiceRows:
    """Rows of many questions, one an option, those of a question consecutive and in the order of its options.

    Attributes:
      tokens: int32 rows, [CLS] article [SEP] question option [SEP].
      segments: int8 rows of the same lengths: 0 up to the first [SEP], 1 behind it.
      article_tokens: int32 [rows], how many tokens of the article the row holds.
      is_cut: bool [rows], whether the article has more.
      labels: int32 [rows], 1 for the right option of a question, 0 for the others.
      question: int32 [rows], index of the question.
      num_options: options of each question, 0 where there are no questions.
      ids: names of the questions.
    """

    tokens: Ragged
    segments: Ragged
    article_tokens: np.ndarray
    is_cut: np.ndarray
    labels: np.ndarray
    question: np.ndarray
    num_options: int
    ids: list[str]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.tokens)


def stream_multiple_choice(
    source: str, *, split: str, level: str = ""
) -> Iterator[MultipleChoiceQuestion]:
    """Read the questions of a split, one after another.

    Args:
      source: `tfds:race/high` or `tfds:race/middle`; `file:PATH`, a file of JSON lines or one JSON list, or a folder of
        train, validation (dev) and test files; `file:RACE`, the folder that RACE's archive holds; another source of
        `load_source`. Rows have example_id (or id), article, question, options and label (a number from 0) or answer (a
        letter or the option's text), or RACE's lists questions, options and answers, or are DREAM's [turns, questions,
        id]. Questions that share an id of an article are called ID-0, ID-1 ...
      split: train, validation or test.
      level: of RACE's folder, middle or high; both where it is empty.

    Yields:
      The questions in the order of the source.

    Raises:
      ValueError: nothing is there, a field is missing or of another kind, an answer is none of the options, or a
        question has more or fewer options than the first; the row is named.
    """
    kind, _, name = source.partition(":")
    if kind == "file" and (folder := _race_folder(name, split)):
        items = _race_files(folder, level)
    elif kind == "file":
        items = open_items(split_file(name, split, _SUFFIXES))
    elif kind == "tfds":
        items = open_tfds(name, split)
    else:
        items = _table_items(load_source(source), source, split)
    return check_counts(question for place, item in items for question in read_item(item, place))


def multiple_choice_splits(source: str) -> tuple[str, ...]:
    """Splits of a source (see `stream_multiple_choice`): those that a folder has files for, that which a file's name says,
    else train; of sources that are no files, all that there may be."""
    kind, _, name = source.partition(":")
    if kind != "file":
        return SPLITS
    return tuple(
        split for split in SPLITS if _race_folder(name, split) or has_split(name, split, _SUFFIXES)
    )


def check_counts(questions: Iterable[MultipleChoiceQuestion]) -> Iterator[MultipleChoiceQuestion]:
    """Yield the questions; ValueError where one has another number of options than the first."""
    expected = None
    for number, question in enumerate(questions, start=1):
        expected = len(question.options) if expected is None else expected
        if len(question.options) != expected:
            raise ValueError(
                f"question {number} ({shown(question.id)}) has {len(question.options)} options; "
                f"expected {expected}, as question 1 has: leave it out, or train on data sets of one number of options"
            )
        yield question


def _race_folder(name: str, split: str) -> pathlib.Path | None:
    """The folder train, dev or test of a split in RACE's folder; None where there is none."""
    place = pathlib.Path(name).expanduser()
    folders = [path for path in sorted(place.iterdir()) if path.is_dir()] if place.is_dir() else []
    return next((path for path in folders if split_name(path.name) == split), None)


def _race_files(folder: pathlib.Path, level: str) -> Iterator[tuple[str, object]]:
    """Yield (place, article with its questions) of RACE's files, one object each."""
    if level not in ("", *RACE_LEVELS):
        raise ValueError(f"RACE has the levels {' and '.join(RACE_LEVELS)}; found {level!r}")
    files = [
        path
        for name in ((level,) if level else RACE_LEVELS)
        for path in sorted((folder / name).glob("*.txt"))
    ]
    if not files:
        raise ValueError(
            f"{folder / level} holds no .txt files of RACE; unpack RACE.tar.gz and give its folder RACE"
        )
    top = folder.parent
    files = [check_inside(top, path.relative_to(top), str(folder)) for path in files]
    return (item for path in files for item in open_items(path))


def _table_items(
    tables: Mapping[str, Table], source: str, split: str
) -> Iterator[tuple[str, object]]:
    """Yield (place, row) of one split of a source that is no file."""
    table = next((table for name, table in tables.items() if split_name(name) == split), None)
    if table is None:
        raise ValueError(f"{source} has no split {split!r}; there are {', '.join(tables)}")
    rows = (dict(zip(table.columns, values)) for values in zip(*table.columns.values()))
    return ((f"{table.where}: row {number}", row) for number, row in enumerate(rows, start=1))


def read_item(item: object, place: str) -> Iterator[MultipleChoiceQuestion]:
    """Yield the questions of one row of any of the forms of `stream_multiple_choice`; place names it in messages."""
    if isinstance(item, list | tuple):
        yield from _dream_questions(item, place)
        return
    if not isinstance(item, Mapping):
        raise ValueError(f"{place} is {type(item).__name__}; expected an object with named fields")
    name = _id_of(item, place)
    if "questions" not in item:
        options = item.get("options")
        answer = _answer_of(item, options)
        is_letter = isinstance(answer, str) and answer in _LETTERS
        texts = options if is_letter and isinstance(options, list) else ()
        if answer in texts and texts.index(answer) != _LETTERS.index(answer):
            raise ValueError(
                f"{place}: question {shown(name)} has the answer {answer!r}, a letter and the text of another "
                "option; give its number as 'label'"
            )
        fields = item.get("article"), item.get("question"), options, answer
        yield read_question(name, *fields, place, is_text=isinstance(answer, str) and not is_letter)
        return
    lists = [item.get(field) for field in ("questions", "options", "answers")]
    if (
        not all(isinstance(values, list) for values in lists)
        or len({len(values) for values in lists}) > 1
    ):
        found = ", ".join(
            str(len(values)) if isinstance(values, list) else repr(values)[:40] for values in lists
        )
        raise ValueError(
            f"{place}: questions, options and answers are {found}; expected lists of one length"
        )
    for number, (question, options, answer) in enumerate(zip(*lists)):
        fields = item.get("article"), question, options, answer
        yield read_question(f"{name}-{number}", *fields, place, is_text=False)


def _answer_of(item: Mapping, options):
    """Return what names the right option; a label that is a number as text is a number."""
    label = item.get("label")
    if label is None:
        return item.get("answer")
    is_number = isinstance(label, str) and isinstance(options, list) and label not in options
    return as_integer(label) if is_number and as_integer(label) is not None else label


def _dream_questions(item: Sequence, place: str) -> Iterator[MultipleChoiceQuestion]:
    """Yield the questions of a dialogue of DREAM: [turns, [{question, choice, answer}, ...], id]."""
    if len(item) != 3 or not isinstance(item[0], list) or not isinstance(item[1], list):
        raise ValueError(
            f"{place} is {str(item)[:60]}; expected [turns, questions, id] as DREAM has it"
        )
    turns, questions, name = item
    article = "\n".join(check_text(turn, "turn", place) for turn in turns)
    name = _id_of({"id": name}, place)
    for number, asked in enumerate(questions):
        if not isinstance(asked, Mapping):
            raise ValueError(
                f"{place}: question {number} is {shown(asked)}; expected question, choice and answer"
            )
        fields = asked.get("question"), asked.get("choice"), asked.get("answer")
        yield read_question(f"{name}-{number}", article, *fields, place, is_text=True)


def _id_of(row: Mapping, place: str) -> str:
    """The name of a row, which answers are matched by."""
    name = next(
        (row[field] for field in ("example_id", "id") if row.get(field) not in (None, "")), None
    )
    name = name if isinstance(name, str) else as_integer(name)
    if name is None:
        raise ValueError(f"{place} has no id; give it a unique text as 'example_id' or 'id'")
    return str(name)


def read_question(
    name: str, article, question, options, answer, place: str, *, is_text: bool
) -> MultipleChoiceQuestion:
    """Check the fields of a question; is_text: whether the answer is the text of an option, else a number or letter."""
    if not isinstance(options, list | tuple) or len(options) < 2:
        found = f"{place}: question {shown(name)} has {shown(options)} as options"
        raise ValueError(f"{found}; expected a list of at least 2")
    texts = tuple(check_text(option, "option", place) for option in options)
    article, question = (
        check_text(article, "article", place),
        check_text(question, "question", place),
    )
    label = _number_of(answer, texts, is_text=is_text)
    if not 0 <= label < len(texts):
        last = _LETTERS[min(len(texts), len(_LETTERS)) - 1]
        expected = (
            "the text of one" if is_text else f"a number from 0 to {len(texts) - 1}, or A to {last}"
        )
        raise ValueError(
            f"{place}: question {shown(name)} has the answer {shown(answer)}, which is none of its "
            f"{len(texts)} options; expected {expected}"
        )
    return MultipleChoiceQuestion(name, article, question, texts, label)


def _number_of(answer, options: tuple[str, ...], *, is_text: bool) -> int:
    """The number of the option that an answer names, -1 where it is no answer."""
    if is_text:
        return options.index(answer) if answer in options else -1
    if isinstance(answer, str):
        return _LETTERS.index(answer) if answer in _LETTERS else -1
    number = as_integer(answer)
    return -1 if number is None else number


def build_multiple_choice_rows(
    questions: Iterable[MultipleChoiceQuestion],
    core: Tokenizer,
    *,
    max_length: int,
    max_option_tokens: int = 128,
) -> MultipleChoiceRows:
    """Tokenize questions into rows, one an option; all chunks of `stream_multiple_choice_rows` at once."""
    limits = {"max_length": max_length, "max_option_tokens": max_option_tokens}
    return join_chunks(list(stream_multiple_choice_rows(questions, core, **limits)))


def stream_multiple_choice_rows(
    questions: Iterable[MultipleChoiceQuestion],
    core: Tokenizer,
    *,
    max_length: int,
    max_option_tokens: int = 128,
) -> Iterator[MultipleChoiceRows]:
    """Tokenize questions into chunks of rows, whose indices of questions start at 0 in each.

    Args:
      questions: with equally many options each.
      core: from `load_core`.
      max_length: tokens of a row, special ones included. Articles lose their end so that the longest option of the
        question fits; all options of a question see the same article.
      max_option_tokens: of question and option together; 128 for RACE. Of longer ones the last are kept, so that
        options stay different. They are put together with a blank, also where the question has a gap ("_").

    Yields:
      Rows of up to 256 questions; of none where there are none.

    Raises:
      ValueError: max_length leaves no room for an article, or the numbers of options differ.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program for RACE.
    """
    template = read_template(core, pair=True)
    room = max_length - template.num_special
    if not 0 < max_option_tokens < room:
        raise ValueError(
            f"max_length {max_length} holds {template.num_special} special tokens and max_option_tokens "
            f"{max_option_tokens}, and no article; expected max_option_tokens between 1 and {room - 1}: change either"
        )
    for chunk in at_least_one(in_chunks(check_counts(questions), _CHUNK)):
        yield _build_chunk(chunk, core, template, room, max_option_tokens)


def _build_chunk(
    chunk: list[MultipleChoiceQuestion],
    core: Tokenizer,
    template,
    room: int,
    max_option_tokens: int,
):
    """Rows of some questions; room: tokens of article, question and option together."""
    articles = list(dict.fromkeys(question.article for question in chunk))
    tokens_of = dict(zip(articles, token_rows(core, articles)))
    texts = [f"{question.question} {option}" for question in chunk for option in question.options]
    ends = [row[-max_option_tokens:] for row in token_rows(core, texts)]
    num_options = len(chunk[0].options) if chunk else 0
    pairs, is_cut = [], []
    for number, question in enumerate(chunk):
        options = ends[number * num_options : (number + 1) * num_options]
        whole = tokens_of[question.article]
        article = whole[: room - max(map(len, options))]
        pairs += [(article, option) for option in options]
        is_cut += [len(article) < len(whole)] * num_options
    labels = [place == question.label for question in chunk for place in range(num_options)]
    return MultipleChoiceRows(
        *fill_template(template, pairs),
        article_tokens=np.array([len(article) for article, _ in pairs], np.int32),
        is_cut=np.array(is_cut, bool),
        labels=np.array(labels, np.int32),
        question=np.repeat(np.arange(len(chunk), dtype=np.int32), num_options),
        num_options=num_options,
        ids=[question.id for question in chunk],
    )
