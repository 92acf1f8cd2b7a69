"""Tasks in which a text is read to answer a question: where they lie, and how their splits are loaded."""

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.hotpot import stream_hotpot
from adapler_jax.data.qa.multiple_choice import choice_splits, stream_choices
from adapler_jax.data.qa.questions import ReadStats, question_splits, stream_questions
from adapler_jax.data.qa.splits import CHOICE, HOTPOT, SPAN, WIKIHOP, Split, load_split
from adapler_jax.data.qa.wikihop import stream_wikihop
from adapler_jax.data.sources.items import has_split
from adapler_jax.io.messages import explain_unknown

SPLITS = ("train", "validation", "test")  # also with a suffix, as test_of_others


@dataclasses.dataclass(frozen=True)
class ReadingTask:
    """What the library knows of a task.

    Attributes:
      name: the key in READING_TASKS.
      kind: SPAN, the answer stands in the text; CHOICE, it is one of some options; HOTPOT, it is a part of several
        paragraphs, yes or no, and sentences support it; WIKIHOP, it is one of the candidates beside several texts.
      source: the default source, as of the kind's stream (`stream_questions` ...); empty where the user must give one.
      allows_null: whether a question may have no answer in the text.
      splits: our name of a split -> the source's.
      split_fractions: splits to cut from train where the source lacks them: a share of its texts.
    """

    name: str
    kind: str
    source: str = ""
    allows_null: bool = False
    splits: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {split: split for split in SPLITS}
    )
    split_fractions: Mapping[str, float] = dataclasses.field(default_factory=dict)


# Published sets keep their test answers to themselves: the published validation split is reported on, and models are
# chosen, and thresholds tuned, on texts cut from train.
_HELD_BACK = {
    "splits": {"train": "train", "test": "validation"},
    "split_fractions": {"validation": 0.05},
}

_TASKS = (
    ReadingTask("squad", SPAN, "tfds:squad", **_HELD_BACK),
    ReadingTask("squad2", SPAN, "tfds:squad/v2.0", allows_null=True, **_HELD_BACK),
    ReadingTask("newsqa", SPAN, "tfds:mrqa/news_qa", **_HELD_BACK),
    ReadingTask("natural_questions", SPAN, "tfds:mrqa/natural_questions", **_HELD_BACK),
    ReadingTask("triviaqa", SPAN, "tfds:trivia_qa/rc", allows_null=True, **_HELD_BACK),
    ReadingTask("subjqa", SPAN, allows_null=True),
    ReadingTask("custom_span", SPAN, allows_null=True, split_fractions={"validation": 0.1}),
    ReadingTask("race", CHOICE, "tfds:race/high"),
    ReadingTask("dream", CHOICE),
    ReadingTask("custom_choice", CHOICE, split_fractions={"validation": 0.1}),
    ReadingTask("hotpotqa", HOTPOT, **_HELD_BACK),
    ReadingTask("wikihop", WIKIHOP, **_HELD_BACK),
)
READING_TASKS = {task.name: task for task in _TASKS}

# What is in one part only where parts are cut from train. HotpotQA's and WikiHop's paragraphs are in many questions.
_HOME = {
    SPAN: lambda item: item.context,
    CHOICE: lambda item: item.article,
    HOTPOT: lambda item: item.question,
    WIKIHOP: lambda item: item.query,
}
_STREAMS = {CHOICE: stream_choices, HOTPOT: stream_hotpot, WIKIHOP: stream_wikihop}


def resolve_sources(
    task: ReadingTask, source: str, sources: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """(source, its name of the split) by our name of every split that there is.

    Raises ValueError where there is no train split, or a split has an unknown name.
    """
    source = source or task.source
    found = {}
    if source:
        there = own_splits(task, source)
        found = {ours: (source, theirs) for ours, theirs in task.splits.items() if theirs in there}
        if len(there) == 1 and not found:  # a file of another name
            found = {"train": (source, there[0])}
    for split, given in sources.items():
        role = split.partition("_")[0]
        if role not in SPLITS:
            raise ValueError(f"config.data.sources: {explain_unknown('split', split, SPLITS)}")
        there = own_splits(task, given)
        found[split] = (given, there[0] if len(there) == 1 else role)
    if "train" not in found:
        raise ValueError(
            f"task {task.name!r} has no train split; set config.data.source, as in file:FOLDER with train and "
            "validation files, or config.data.sources"
        )
    return found


def in_hash_split(text: str, share: float, seed: int) -> bool:
    """Whether a text belongs to a part that has this share of all; the same for every question about it."""
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, salt=seed.to_bytes(8, "little")
    )
    return int.from_bytes(digest.digest(), "little") < share * 2**64


def carved(
    items: Iterable, text_of: Callable, split: str, split_fractions: Mapping[str, float], seed: int
) -> Iterator:
    """The items of one split when parts of train become splits of their own; a text is in one of them only.

    Raises ValueError, at the end, where the split has none.
    """
    is_empty = True
    shares = {name: share for name, share in split_fractions.items() if share}
    bounds = dict(zip(shares, itertools.accumulate(shares.values())))
    for item in items:
        home = next(
            (name for name, bound in bounds.items() if in_hash_split(text_of(item), bound, seed)),
            "train",
        )
        if home == split:
            is_empty = False
            yield item
    if is_empty:
        parts = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise ValueError(
            f"of train's texts none fell to the split {split} (shares: {parts}); give config.data.split_fractions larger "
            "ones, or files in config.data.sources"
        )


def sampled(items: Iterable, num_items: int, seed: int) -> list:
    """A random subset of at most num_items, in their order; holds no more than it gives."""
    generator, kept = np.random.default_rng(seed), []
    for place, item in enumerate(items):
        if place < num_items:
            kept.append((place, item))
        elif (chosen := int(generator.integers(place + 1))) < num_items:
            kept[chosen] = (place, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


@dataclasses.dataclass(frozen=True)
class ReadingData:
    """A task, loaded: its splits, and one sentence for everything that a user should know."""

    task: ReadingTask
    splits: dict[str, Split]
    notes: tuple[str, ...]


def load_reading(
    name: str,
    core: Tokenizer,
    *,
    max_length: int,
    reading: Mapping,
    source: str = "",
    sources: Mapping[str, str] | None = None,
    split_fractions: Mapping[str, float] | None = None,
    split_seed: int = 0,
    num_train_examples: int = 0,
    cache_dir: pathlib.Path | None = None,
    only: Sequence[str] = SPLITS,
) -> ReadingData:
    """Load a task from its own source or from the user's.

    Args:
      name: a key of READING_TASKS; custom_span and custom_choice for the user's own data.
      core: the tokenizer, as `load_core` gives it.
      max_length: token slots of a row.
      reading: the settings of `config.qa`.
      source, sources, split_fractions, split_seed, num_train_examples: as in `load_task`; parts are shares of the texts,
        of HotpotQA and WikiHop of the questions, num_train_examples counts questions.
      cache_dir: where windows are kept; None keeps them in memory.
      only: splits to load.

    Raises:
      ValueError: a name is unknown, a split is missing or malformed.
    """
    if name not in READING_TASKS:
        raise ValueError(explain_unknown("reading task", name, READING_TASKS))
    task = READING_TASKS[name]
    sources = resolve_sources(task, source, sources or {})
    split_fractions = {
        split: share
        for split, share in (
            task.split_fractions if split_fractions is None else split_fractions
        ).items()
        if split not in sources
    }
    check_carve(split_fractions)
    unit = "texts" if task.kind in (SPAN, CHOICE) else "questions"
    notes, splits = [], {}
    names = sorted(
        {*sources, *split_fractions},
        key=lambda split: (SPLITS.index(split.partition("_")[0]), split),
    )
    for split in (split for split in names if split.partition("_")[0] in only):
        where, theirs = sources.get(split, sources["train"])
        tally = ReadStats()

        def stream(where=where, theirs=theirs, split=split, tally=tally):
            items = open_stream(
                task, where, theirs, skip_mismatched=reading["skip_mismatched"], tally=tally
            )
            if split == "train" or split not in sources:
                items = carved(items, _HOME[task.kind], split, split_fractions, split_seed)
            size = {
                "train": num_train_examples,
                "validation": reading["num_validation_examples"],
            }.get(split, 0)
            return sampled(items, size, split_seed) if size else items

        splits[split] = load_split(
            task.kind,
            stream,
            core,
            max_length=max_length,
            reading=reading,
            cache_dir=cache_dir,
            shuffle_seed=split_seed if split == "train" else None,
        )
        if size := {
            "train": num_train_examples,
            "validation": reading["num_validation_examples"],
        }.get(split, 0):
            count = splits[split].num_questions
            notes.append(
                f"{split}: {count} questions drawn by seed {split_seed}, at most {size}; others are left out"
            )
        if split in split_fractions:
            count = splits[split].num_questions
            notes.append(
                f"{split}: {split_fractions[split]:g} of train's {unit}, by seed {split_seed}: {count} questions"
            )
        notes += [f"{split}: {note}" for note in tally.notes()]
    return ReadingData(task, splits, tuple(notes))


def check_carve(split_fractions: Mapping[str, float]) -> None:
    """Raises ValueError where a part is no share, or nothing is left for train."""
    for split, share in split_fractions.items():
        if split not in SPLITS[1:] or not 0 <= share < 1:
            raise ValueError(
                f"config.data.split_fractions has {share!r} for {split!r}; expected shares of validation and test"
            )
    if sum(split_fractions.values()) >= 1:
        raise ValueError(
            f"config.data.split_fractions leaves nothing for train: {dict(split_fractions)}"
        )


def own_splits(task: ReadingTask, source: str) -> tuple[str, ...]:
    """The source's names of its splits."""
    if task.kind in (SPAN, CHOICE):
        return (question_splits if task.kind == SPAN else choice_splits)(source)
    return tuple(
        split
        for split in SPLITS
        if has_split(source.removeprefix("file:"), split, (".json", ".jsonl"))
    )


def open_stream(
    task: ReadingTask, source: str, split: str, *, skip_mismatched: bool, tally: ReadStats
) -> Iterable:
    """The questions of one split of a source."""
    if task.kind == SPAN:
        tally.num_questions = tally.num_skipped = 0
        return stream_questions(source, split=split, skip_mismatched=skip_mismatched, tally=tally)
    return _STREAMS[task.kind](source, split=split)
