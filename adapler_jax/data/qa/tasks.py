"""Tasks in which a text is read to answer a question: where they lie, and how their splits are loaded."""

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.hotpot import stream_hotpot
from adapler_jax.data.qa.multiple_choice import multiple_choice_splits, stream_multiple_choice
from adapler_jax.data.qa.questions import ReadStats, question_splits, stream_questions
from adapler_jax.data.qa.splits import QAKind, Split, load_split
from adapler_jax.data.qa.wikihop import stream_wikihop
from adapler_jax.data.sources.items import has_split
from adapler_jax.data.split_names import SPLITS, role_of, sort_splits
from adapler_jax.io.messages import explain_unknown


@dataclasses.dataclass(frozen=True)
class QATask:
    """What the library knows of a task.

    Attributes:
      name: the key in QA_TASKS.
      kind: QAKind.SPAN, the answer stands in the text; QAKind.MULTIPLE_CHOICE, it is one of some options; QAKind.HOTPOT, it is a part of several
        paragraphs, yes or no, and sentences support it; QAKind.WIKIHOP, it is one of the candidates beside several texts.
      source: the default source, as of the kind's stream (`stream_questions` ...); empty where the user must give one.
      allows_null: whether a question may have no answer in the text.
      splits: our name of a split -> the source's.
      split_fractions: splits to cut from train where the source lacks them: a share of its texts.
    """

    name: str
    kind: QAKind
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
    QATask("squad", QAKind.SPAN, "tfds:squad", **_HELD_BACK),
    QATask("squad2", QAKind.SPAN, "tfds:squad/v2.0", allows_null=True, **_HELD_BACK),
    QATask("newsqa", QAKind.SPAN, "tfds:mrqa/news_qa", **_HELD_BACK),
    QATask("natural_questions", QAKind.SPAN, "tfds:mrqa/natural_questions", **_HELD_BACK),
    QATask("triviaqa", QAKind.SPAN, "tfds:trivia_qa/rc", allows_null=True, **_HELD_BACK),
    QATask("subjqa", QAKind.SPAN, allows_null=True),
    QATask("custom_span", QAKind.SPAN, allows_null=True, split_fractions={"validation": 0.1}),
    QATask("race", QAKind.MULTIPLE_CHOICE, "tfds:race/high"),
    QATask("dream", QAKind.MULTIPLE_CHOICE),
    QATask("custom_choice", QAKind.MULTIPLE_CHOICE, split_fractions={"validation": 0.1}),
    QATask("hotpotqa", QAKind.HOTPOT, **_HELD_BACK),
    QATask("wikihop", QAKind.WIKIHOP, **_HELD_BACK),
)
QA_TASKS = {task.name: task for task in _TASKS}

# What is in one part only where parts are cut from train. HotpotQA's and WikiHop's paragraphs are in many questions.
_HOME = {
    QAKind.SPAN: lambda item: item.context,
    QAKind.MULTIPLE_CHOICE: lambda item: item.article,
    QAKind.HOTPOT: lambda item: item.question,
    QAKind.WIKIHOP: lambda item: item.query,
}
_STREAMS = {
    QAKind.MULTIPLE_CHOICE: stream_multiple_choice,
    QAKind.HOTPOT: stream_hotpot,
    QAKind.WIKIHOP: stream_wikihop,
}


def resolve_sources(
    task: QATask, source: str, sources: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """(source, its name of the split) by our name of every split that there is.

    Raises ValueError where there is no train split, or a split has an unknown name.
    """
    source = source or task.source
    found = {}
    if source:
        there = source_splits(task, source)
        found = {ours: (source, theirs) for ours, theirs in task.splits.items() if theirs in there}
        if len(there) == 1 and not found:  # a file of another name
            found = {"train": (source, there[0])}
    for split, given in sources.items():
        role = role_of(split)
        if role not in SPLITS:
            raise ValueError(f"config.data.sources: {explain_unknown('split', split, SPLITS)}")
        there = source_splits(task, given)
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


def split_stream(
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


def reservoir_sample(items: Iterable, num_items: int, seed: int) -> list:
    """A random subset of at most num_items, in their order; holds no more than it gives."""
    generator, kept = np.random.default_rng(seed), []
    for place, item in enumerate(items):
        if place < num_items:
            kept.append((place, item))
        elif (chosen := int(generator.integers(place + 1))) < num_items:
            kept[chosen] = (place, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


@dataclasses.dataclass(frozen=True)
class QADataset:
    """A task, loaded: its splits, and one sentence for everything that a user should know."""

    task: QATask
    splits: dict[str, Split]
    notes: tuple[str, ...]


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
      name: a key of QA_TASKS; custom_span and custom_choice for the user's own data.
      core: the tokenizer, as `load_core` gives it.
      max_length: token slots of a row.
      qa_config: the settings of `config.qa`.
      source, sources, split_fractions, split_seed, num_train_examples: as in `load_task`; parts are shares of the texts,
        of HotpotQA and WikiHop of the questions, num_train_examples counts questions.
      cache_dir: where windows are kept; None keeps them in memory.
      only: splits to load.

    Raises:
      ValueError: a name is unknown, a split is missing or malformed.
    """
    if name not in QA_TASKS:
        raise ValueError(explain_unknown("QA task", name, QA_TASKS))
    task = QA_TASKS[name]
    sources = resolve_sources(task, source, sources or {})
    split_fractions = {
        split: share
        for split, share in (
            task.split_fractions if split_fractions is None else split_fractions
        ).items()
        if split not in sources
    }
    check_split_fractions(split_fractions)
    unit = "texts" if task.kind in (QAKind.SPAN, QAKind.MULTIPLE_CHOICE) else "questions"
    notes, splits = [], {}
    names = sort_splits({*sources, *split_fractions})
    for split in (split for split in names if role_of(split) in only):
        where, theirs = sources.get(split, sources["train"])
        stats = ReadStats()

        def stream(where=where, theirs=theirs, split=split, stats=stats):
            items = open_stream(
                task, where, theirs, skip_mismatched=qa_config["skip_mismatched"], stats=stats
            )
            if split == "train" or split not in sources:
                items = split_stream(items, _HOME[task.kind], split, split_fractions, split_seed)
            size = {
                "train": num_train_examples,
                "validation": qa_config["num_validation_examples"],
            }.get(split, 0)
            return reservoir_sample(items, size, split_seed) if size else items

        splits[split] = load_split(
            task.kind,
            stream,
            core,
            max_length=max_length,
            qa_config=qa_config,
            cache_dir=cache_dir,
            shuffle_seed=split_seed if split == "train" else None,
        )
        if size := {
            "train": num_train_examples,
            "validation": qa_config["num_validation_examples"],
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
        notes += [f"{split}: {note}" for note in stats.notes()]
    return QADataset(task, splits, tuple(notes))


def check_split_fractions(split_fractions: Mapping[str, float]) -> None:
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


def source_splits(task: QATask, source: str) -> tuple[str, ...]:
    """The source's names of its splits."""
    if task.kind in (QAKind.SPAN, QAKind.MULTIPLE_CHOICE):
        return (question_splits if task.kind == QAKind.SPAN else multiple_choice_splits)(source)
    return tuple(
        split
        for split in SPLITS
        if has_split(source.removeprefix("file:"), split, (".json", ".jsonl"))
    )


def open_stream(
    task: QATask, source: str, split: str, *, skip_mismatched: bool, stats: ReadStats
) -> Iterable:
    """The questions of one split of a source."""
    if task.kind == QAKind.SPAN:
        stats.num_questions = stats.num_skipped = 0
        return stream_questions(source, split=split, skip_mismatched=skip_mismatched, stats=stats)
    return _STREAMS[task.kind](source, split=split)
