"""Read multiple choice questions from RACE, DREAM, and files and data sets of these forms."""

import pathlib
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from adapler_jax.data.qa.json_questions import check_object
from adapler_jax.data.qa.multiple_choice import MultipleChoiceQuestion, check_counts
from adapler_jax.data.sources.files import split_name
from adapler_jax.data.sources.items import check_text, has_split, open_items, split_file
from adapler_jax.data.sources.load import load_source
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.sources.tfds import open_tfds
from adapler_jax.data.sources.values import as_integer
from adapler_jax.data.split_names import SPLITS
from adapler_jax.io.messages import shown

RACE_LEVELS = ("middle", "high")
_LETTERS = tuple(string.ascii_uppercase)  # names of options
_SUFFIXES = (".jsonl", ".json")


class _RawQuestion(NamedTuple):
    """Fields of a question before any check."""

    name: str
    article: Any
    question: Any
    options: Any
    answer: Any  # the text of an option if is_text, else a number or a letter
    is_text: bool


def stream_multiple_choice(
    source: str, *, split: str, level: str = ""
) -> Iterator[MultipleChoiceQuestion]:
    """Read the questions of a split, one after another.

    Rows have example_id (or id), article, question, options and label (a number from 0) or answer
    (a letter or the option's text). Other forms are RACE's lists questions, options and answers,
    and DREAM's [turns, questions, id]. Questions that share the id of an article are called ID-0,
    ID-1 ...

    Args:
      source: `tfds:race/high` or `tfds:race/middle`; `file:PATH`, a file of JSON lines or one JSON
        list, or a folder of train, validation (dev) and test files; `file:RACE`, the folder in
        RACE's archive; another source of `load_source`.
      split: train, validation or test.
      level: level of RACE's folder, middle or high; empty for both.

    Yields:
      The questions in the order of the source.

    Raises:
      ValueError: the source is missing, a field is missing or has another type, an answer is none
        of the options, or a question has more or fewer options than the first. The row is named.
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
    return check_counts(question for location, item in items for question in _parse(item, location))


def multiple_choice_splits(source: str) -> tuple[str, ...]:
    """Return the splits of a source of `stream_multiple_choice`.

    A folder has the splits of its files, and a file the split in its name, else train. A source
    that is no file may have every split.
    """
    kind, _, name = source.partition(":")
    if kind != "file":
        return SPLITS
    return tuple(
        split for split in SPLITS if _race_folder(name, split) or has_split(name, split, _SUFFIXES)
    )


def _race_folder(name: str, split: str) -> pathlib.Path | None:
    """Return the folder of a split in RACE's folder; None if there is no such folder."""
    top = pathlib.Path(name).expanduser()
    folders = [path for path in sorted(top.iterdir()) if path.is_dir()] if top.is_dir() else []
    return next((path for path in folders if split_name(path.name) == split), None)


def _race_files(folder: pathlib.Path, level: str) -> Iterator[tuple[str, object]]:
    """Yield (location, article with its questions) of RACE's files, which hold one object each."""
    if level not in ("", *RACE_LEVELS):
        raise ValueError(f"RACE has the levels {' and '.join(RACE_LEVELS)}; found {level!r}")
    levels = (level,) if level else RACE_LEVELS
    files = [path for name in levels for path in sorted((folder / name).glob("*.txt"))]
    if not files:
        raise ValueError(
            f"{folder / level} holds no .txt files of RACE; "
            "unpack RACE.tar.gz and give its folder RACE"
        )
    top = folder.parent
    files = [check_inside(top, path.relative_to(top), str(folder)) for path in files]
    return (item for path in files for item in open_items(path))


def _table_items(
    tables: Mapping[str, Table], source: str, split: str
) -> Iterator[tuple[str, object]]:
    """Yield (location, row) of one split of a source that is no file."""
    table = next((table for name, table in tables.items() if split_name(name) == split), None)
    if table is None:
        raise ValueError(f"{source} has no split {split!r}; there are {', '.join(tables)}")
    rows = (dict(zip(table.columns, values)) for values in zip(*table.columns.values()))
    return ((f"{table.where}: row {number}", row) for number, row in enumerate(rows, start=1))


def _parse(item: object, location: str) -> Iterator[MultipleChoiceQuestion]:
    """Yield the questions of one row in any of the forms."""
    if isinstance(item, list | tuple):
        raw = _dream_questions(item, location)
    else:
        fields = check_object(item, location)
        parse = _race_questions if "questions" in fields else _flat_question
        raw = parse(fields, location)
    for question in raw:
        yield _check_question(question, location)


def _flat_question(item: Mapping, location: str) -> Iterator[_RawQuestion]:
    """Yield the question of a row."""
    name, options = _id_of(item, location), item.get("options")
    answer = _answer_of(item, options)
    is_letter = isinstance(answer, str) and answer in _LETTERS
    texts = options if is_letter and isinstance(options, list) else []
    if answer in texts and texts.index(answer) != _LETTERS.index(answer):
        raise ValueError(
            f"{location}: question {shown(name)} has the answer {answer!r}, a letter and the text "
            "of another option; give its number as 'label'"
        )
    is_text = isinstance(answer, str) and not is_letter
    yield _RawQuestion(name, item.get("article"), item.get("question"), options, answer, is_text)


def _race_questions(item: Mapping, location: str) -> Iterator[_RawQuestion]:
    """Yield the questions of an article of RACE, which has parallel lists."""
    name = _id_of(item, location)
    columns = [item.get(field) for field in ("questions", "options", "answers")]
    lists = [values for values in columns if isinstance(values, list)]
    if len(lists) < len(columns) or len({len(values) for values in lists}) > 1:
        found = ", ".join(
            str(len(values)) if isinstance(values, list) else repr(values)[:40]
            for values in columns
        )
        raise ValueError(
            f"{location}: questions, options and answers are {found}; expected lists of one length"
        )
    article = item.get("article")
    for number, (question, options, answer) in enumerate(zip(*lists)):
        yield _RawQuestion(f"{name}-{number}", article, question, options, answer, is_text=False)


def _dream_questions(item: Sequence, location: str) -> Iterator[_RawQuestion]:
    """Yield the questions of a dialogue of DREAM: [turns, questions, id]."""
    if len(item) != 3 or not isinstance(item[0], list) or not isinstance(item[1], list):
        raise ValueError(
            f"{location} is {str(item)[:60]}; expected [turns, questions, id] as DREAM has it"
        )
    turns, questions, name = item
    article = "\n".join(check_text(turn, "turn", location) for turn in turns)
    name = _id_of({"id": name}, location)
    for number, fields in enumerate(questions):
        if not isinstance(fields, Mapping):
            raise ValueError(
                f"{location}: question {number} is {shown(fields)}; "
                "expected question, choice and answer"
            )
        question, options = fields.get("question"), fields.get("choice")
        answer = fields.get("answer")
        yield _RawQuestion(f"{name}-{number}", article, question, options, answer, is_text=True)


def _answer_of(item: Mapping, options: object) -> Any:
    """Return the name of the correct option; a label that spells a number is a number."""
    label = item.get("label")
    if label is None:
        return item.get("answer")
    if isinstance(label, str) and isinstance(options, list) and label not in options:
        number = as_integer(label)
        return label if number is None else number
    return label


def _id_of(row: Mapping, location: str) -> str:
    """Return the name of a row, which answers are matched by."""
    ids = (row[field] for field in ("example_id", "id") if row.get(field) not in (None, ""))
    found = next(ids, None)
    name = found if isinstance(found, str) else as_integer(found)
    if name is None:
        raise ValueError(f"{location} has no id; give it a unique text as 'example_id' or 'id'")
    return str(name)


def _check_question(raw: _RawQuestion, location: str) -> MultipleChoiceQuestion:
    """Check the fields of a question."""
    where = f"{location}: question {shown(raw.name)}"
    if not isinstance(raw.options, list | tuple) or len(raw.options) < 2:
        raise ValueError(
            f"{where} has {shown(raw.options)} as options; expected a list of at least 2"
        )
    options = tuple(check_text(option, "option", location) for option in raw.options)
    article = check_text(raw.article, "article", location)
    question = check_text(raw.question, "question", location)
    label = _option_index(raw.answer, options, is_text=raw.is_text)
    if not 0 <= label < len(options):
        last = _LETTERS[min(len(options), len(_LETTERS)) - 1]
        numbers = f"a number from 0 to {len(options) - 1}, or A to {last}"
        expected = "the text of one" if raw.is_text else numbers
        raise ValueError(
            f"{where} has the answer {shown(raw.answer)}, which is none of its {len(options)} "
            f"options; expected {expected}"
        )
    return MultipleChoiceQuestion(raw.name, article, question, options, label)


def _option_index(answer: object, options: tuple[str, ...], *, is_text: bool) -> int:
    """Return the index of the option that an answer names; -1 if it names none."""
    if is_text:
        return options.index(answer) if isinstance(answer, str) and answer in options else -1
    if isinstance(answer, str):
        return _LETTERS.index(answer) if answer in _LETTERS else -1
    number = as_integer(answer)
    return -1 if number is None else number
