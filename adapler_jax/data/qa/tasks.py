"""List the question answering tasks, resolve their sources, and load their splits."""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.hotpot import stream_hotpot
from adapler_jax.data.qa.json_questions import json_question_splits
from adapler_jax.data.qa.multiple_choice_files import (
    multiple_choice_splits,
    stream_multiple_choice,
)
from adapler_jax.data.qa.questions import ReadStats, question_splits, stream_questions
from adapler_jax.data.qa.splits import QAKind, Split, load_split
from adapler_jax.data.qa.wikihop import stream_wikihop
from adapler_jax.data.split_names import SPLITS, role_of, sort_splits
from adapler_jax.io.messages import explain_unknown

Item = TypeVar("Item")
Located = tuple[str, str]  # a source, and its name of a split


@dataclasses.dataclass(frozen=True)
class QATask:
    """Description of a question answering task.

    Attributes:
      name: the key in QA_TASKS.
      kind: the kind of answers.
      source: the default source, for the kind's stream (`stream_questions` ...); empty if the user
        must give one.
      allows_null: True if a question may have no answer in the text.
      splits: our name of a split -> the source's name.
      split_fractions: splits to take from train if the source lacks them: a fraction of its texts.
    """

    name: str
    kind: QAKind
    source: str = ""
    allows_null: bool = False
    splits: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {split: split for split in SPLITS}
    )
    split_fractions: Mapping[str, float] = dataclasses.field(default_factory=dict)


def _published(name: str, kind: QAKind, source: str = "", *, allows_null: bool = False) -> QATask:
    """Return a published task whose test answers are secret.

    Scores are reported on its published validation split. Texts taken from train select
    checkpoints and thresholds.
    """
    return QATask(
        name,
        kind,
        source,
        allows_null=allows_null,
        splits={"train": "train", "test": "validation"},
        split_fractions={"validation": 0.05},
    )


_TASKS = (
    _published("squad", QAKind.SPAN, "tfds:squad"),
    _published("squad2", QAKind.SPAN, "tfds:squad/v2.0", allows_null=True),
    _published("newsqa", QAKind.SPAN, "tfds:mrqa/news_qa"),
    _published("natural_questions", QAKind.SPAN, "tfds:mrqa/natural_questions"),
    _published("triviaqa", QAKind.SPAN, "tfds:trivia_qa/rc", allows_null=True),
    QATask("subjqa", QAKind.SPAN, allows_null=True),
    QATask("custom_span", QAKind.SPAN, allows_null=True, split_fractions={"validation": 0.1}),
    QATask("race", QAKind.MULTIPLE_CHOICE, "tfds:race/high"),
    QATask("dream", QAKind.MULTIPLE_CHOICE),
    QATask("custom_choice", QAKind.MULTIPLE_CHOICE, split_fractions={"validation": 0.1}),
    _published("hotpotqa", QAKind.HOTPOT),
    _published("wikihop", QAKind.WIKIHOP),
)
QA_TASKS = {task.name: task for task in _TASKS}

# The text that decides an item's split, so that no text is in two splits. The paragraphs of
# HotpotQA and WikiHop are in many questions, so there the question decides.
_SPLIT_TEXTS: dict[QAKind, Callable] = {
    QAKind.SPAN: lambda item: item.context,
    QAKind.MULTIPLE_CHOICE: lambda item: item.article,
    QAKind.HOTPOT: lambda item: item.question,
    QAKind.WIKIHOP: lambda item: item.query,
}
_STREAMS: dict[QAKind, Callable[..., Iterator]] = {
    QAKind.MULTIPLE_CHOICE: stream_multiple_choice,
    QAKind.HOTPOT: stream_hotpot,
    QAKind.WIKIHOP: stream_wikihop,
}
_SOURCE_SPLITS: dict[QAKind, Callable[[str], tuple[str, ...]]] = {
    QAKind.SPAN: question_splits,
    QAKind.MULTIPLE_CHOICE: multiple_choice_splits,
    QAKind.HOTPOT: json_question_splits,
    QAKind.WIKIHOP: json_question_splits,
}


def source_splits(task: QATask, source: str) -> tuple[str, ...]:
    """Return the source's names of its splits."""
    return _SOURCE_SPLITS[task.kind](source)


def resolve_sources(task: QATask, source: str, sources: Mapping[str, str]) -> dict[str, Located]:
    """Return the source of every split that there is.

    Args:
      task: the task.
      source: replaces the task's source; empty for the task's.
      sources: sources of single splits, which replace `source`.

    Returns:
      (source, its name of the split) by our name.

    Raises:
      ValueError: there is no train split, or a split has an unknown name.
    """
    found = _resolve_source(task, source or task.source)
    for split, given in sources.items():
        role = role_of(split)
        if role not in SPLITS:
            raise ValueError(f"config.data.sources: {explain_unknown('split', split, SPLITS)}")
        available = source_splits(task, given)
        found[split] = (given, available[0] if len(available) == 1 else role)
    if "train" not in found:
        raise ValueError(
            f"task {task.name!r} has no train split; set config.data.source, as in file:FOLDER "
            "with train and validation files, or config.data.sources"
        )
    return found


def _resolve_source(task: QATask, source: str) -> dict[str, Located]:
    """Return the splits of one source; a single file of another name is train."""
    if not source:
        return {}
    available = source_splits(task, source)
    found = {ours: (source, theirs) for ours, theirs in task.splits.items() if theirs in available}
    if len(available) == 1 and not found:
        return {"train": (source, available[0])}
    return found


def in_hash_split(text: str, fraction: float, seed: int) -> bool:
    """Return True for the given fraction of all texts, by a hash; always the same for a text."""
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, salt=seed.to_bytes(8, "little")
    )
    return int.from_bytes(digest.digest(), "little") < fraction * 2**64


def split_stream(
    items: Iterable[Item],
    text_of: Callable[[Item], str],
    split: str,
    *,
    split_fractions: Mapping[str, float],
    seed: int,
) -> Iterator[Item]:
    """Yield the items of one split when fractions of train become other splits.

    Args:
      items: the items of the source's train split.
      text_of: returns the text that decides an item's split.
      split: the split to yield.
      split_fractions: fraction of each split that is taken from train.
      seed: decides the split of each text.

    Raises:
      ValueError: at the end, if the split has no items.
    """
    fractions = {name: fraction for name, fraction in split_fractions.items() if fraction}
    bounds = dict(zip(fractions, itertools.accumulate(fractions.values())))
    is_empty = True
    for item in items:
        text = text_of(item)
        splits = (name for name, bound in bounds.items() if in_hash_split(text, bound, seed))
        if next(splits, "train") == split:
            is_empty = False
            yield item
    if is_empty:
        found = ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items())
        raise ValueError(
            f"split {split} received no texts of train (fractions: {found}); give "
            "config.data.split_fractions larger ones, or files in config.data.sources"
        )


def reservoir_sample(items: Iterable[Item], num_items: int, seed: int) -> list[Item]:
    """Draw at most num_items items; keep their order. Memory holds the drawn items only."""
    generator = np.random.default_rng(seed)
    kept: list[tuple[int, Item]] = []
    for index, item in enumerate(items):
        if index < num_items:
            kept.append((index, item))
        elif (slot := int(generator.integers(index + 1))) < num_items:
            kept[slot] = (index, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


@dataclasses.dataclass(frozen=True)
class QADataset:
    """A loaded task: its splits, and a sentence for each change to the data."""

    task: QATask
    splits: dict[str, Split]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Selection:
    """Which questions of a task are in each split.

    Attributes:
      task: the task.
      locations: (source, its name of the split) by our name.
      fractions: fraction of each split that is taken from train.
      sizes: largest number of questions by split; 0 takes all.
      seed: decides the splits and the samples.
      skip_mismatched: skip questions whose answers do not fit their text.
    """

    task: QATask
    locations: Mapping[str, Located]
    fractions: Mapping[str, float]
    sizes: Mapping[str, int]
    seed: int
    skip_mismatched: bool

    def names(self) -> list[str]:
        """Return the names of all splits in order."""
        return sort_splits({*self.locations, *self.fractions})

    def stream(self, split: str, stats: ReadStats) -> Iterable:
        """Return the questions of a split; stats counts them."""
        source, source_split = self.locations.get(split, self.locations["train"])
        items = _open_stream(
            self.task, source, source_split, skip_mismatched=self.skip_mismatched, stats=stats
        )
        if split == "train" or split not in self.locations:
            items = split_stream(
                items,
                _SPLIT_TEXTS[self.task.kind],
                split,
                split_fractions=self.fractions,
                seed=self.seed,
            )
        size = self.sizes.get(split, 0)
        return reservoir_sample(items, size, self.seed) if size else items

    def notes(self, split: str, count: int, stats: ReadStats) -> list[str]:
        """Return notes on a split that holds `count` questions."""
        notes = []
        if size := self.sizes.get(split, 0):
            notes.append(
                f"{split}: {count} questions drawn by seed {self.seed}, at most {size}; others are "
                "left out"
            )
        if split in self.fractions:
            unit = (
                "texts" if self.task.kind in (QAKind.SPAN, QAKind.MULTIPLE_CHOICE) else "questions"
            )
            notes.append(
                f"{split}: {self.fractions[split]:g} of train's {unit}, by seed {self.seed}: "
                f"{count} questions"
            )
        return notes + [f"{split}: {note}" for note in stats.notes()]


def load_qa_task(
    name: str,
    core: Tokenizer,
    *,
    max_length: int,
    qa_config: Mapping,
    source: str = "",
    sources: Mapping[str, str] | None = None,
    split_fractions: Mapping[str, float] | None = None,
    split_seed: int = 0,
    num_train_examples: int = 0,
    cache_dir: pathlib.Path | None = None,
    only: Sequence[str] = SPLITS,
) -> QADataset:
    """Load a task from its own source or from the user's.

    Args:
      name: a key of QA_TASKS; custom_span or custom_choice for own data.
      core: a tokenizer of `load_core`.
      max_length: token slots of a row.
      qa_config: the fields of `config.qa`.
      source: replaces the task's source.
      sources: sources of single splits.
      split_fractions: replaces the task's: fractions of train.
      split_seed: decides the splits and the samples.
      num_train_examples: train on a sample of at most so many questions; 0 for all.
      cache_dir: folder that stores windows; None keeps them in memory.
      only: splits to load.

    Raises:
      ValueError: a name is unknown, or a split is missing or malformed.
    """
    if name not in QA_TASKS:
        raise ValueError(explain_unknown("QA task", name, QA_TASKS))
    task = QA_TASKS[name]
    locations = resolve_sources(task, source, sources or {})
    selection = _Selection(
        task=task,
        locations=locations,
        fractions=_missing_fractions(task, split_fractions, locations),
        sizes={"train": num_train_examples, "validation": qa_config["num_validation_examples"]},
        seed=split_seed,
        skip_mismatched=qa_config["skip_mismatched"],
    )
    notes, splits = [], {}
    for split in selection.names():
        if role_of(split) not in only:
            continue
        stats = ReadStats()
        splits[split] = load_split(
            task.kind,
            functools.partial(selection.stream, split, stats),
            core,
            max_length=max_length,
            qa_config=qa_config,
            cache_dir=cache_dir,
            shuffle_seed=split_seed if split == "train" else None,
        )
        notes += selection.notes(split, splits[split].num_questions, stats)
    return QADataset(task, splits, tuple(notes))


def _missing_fractions(
    task: QATask, split_fractions: Mapping[str, float] | None, locations: Mapping[str, Located]
) -> dict[str, float]:
    """Return the fractions of the splits that have no source."""
    fractions = task.split_fractions if split_fractions is None else split_fractions
    found = {name: value for name, value in fractions.items() if name not in locations}
    check_split_fractions(found)
    return found


def check_split_fractions(split_fractions: Mapping[str, float]) -> None:
    """Raise ValueError if a value is no fraction, or no texts are left for train."""
    for split, fraction in split_fractions.items():
        if split not in SPLITS[1:] or not 0 <= fraction < 1:
            raise ValueError(
                f"config.data.split_fractions has {fraction!r} for {split!r}; "
                "expected fractions for validation and test"
            )
    if sum(split_fractions.values()) >= 1:
        raise ValueError(
            f"config.data.split_fractions leaves nothing for train: {dict(split_fractions)}"
        )


def _open_stream(
    task: QATask, source: str, split: str, *, skip_mismatched: bool, stats: ReadStats
) -> Iterator:
    """Return the questions of one split of a source."""
    if task.kind == QAKind.SPAN:
        # A split is read again if its windows cannot be stored, so counts start again too.
        stats.num_questions = stats.num_skipped = 0
        return stream_questions(source, split=split, skip_mismatched=skip_mismatched, stats=stats)
    return _STREAMS[task.kind](source, split=split)
