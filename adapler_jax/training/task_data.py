"""Load a task in tokens, of classification or of questions, for training and evaluation."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.classification.examples import Dataset, check_source, load_task
from adapler_jax.data.classification.summary import majority_shares, summarize
from adapler_jax.data.classification.tasks import get_task
from adapler_jax.data.qa.splits import (
    HotpotSplit,
    MultipleChoiceSplit,
    QAKind,
    SpanSplit,
    WikihopSplit,
)
from adapler_jax.data.qa.tasks import QA_TASKS, QADataset, load_qa_task
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.split_names import SPLITS, evaluation_splits
from adapler_jax.data.tokenization.pieces import SIDES
from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer
from adapler_jax.data.tokenization.tokens import tokenize
from adapler_jax.evaluation.question_answering import (
    ChoiceScorer,
    HotpotScorer,
    SpanScorer,
    WikihopScorer,
)
from adapler_jax.evaluation.scoring import ClassScorer, Scorer
from adapler_jax.heads import CLASSIFICATION, SPAN, Head, candidates, choice, hotpot
from adapler_jax.io.user_folders import user_cache
from adapler_jax.metrics.classification import metric_name
from adapler_jax.weights.base_model import base_model_entry
from adapler_jax.weights.labels import names_in_run
from adapler_jax.weights.save import extra_if_ours

UNITS = {
    QAKind.SPAN: "windows",
    QAKind.MULTIPLE_CHOICE: "options",
    QAKind.HOTPOT: "questions",
    QAKind.WIKIHOP: "rows",
}
PER_OPTION = ("wrong", "right")  # classes of an option that is judged alone


SplitT = TypeVar("SplitT")


class TaskData(NamedTuple):
    """A task, loaded and in tokens."""

    name: str
    metric: str  # name of the main score
    head: Head
    class_names: tuple[str, ...]  # empty for heads without classes
    splits: dict[str, Tokenized]
    notes: tuple[str, ...]  # notes to the user, one sentence each
    # (split, no-answer threshold or None) -> a fresh Scorer
    make_scorer: Callable[..., Scorer]
    group: int = 1  # rows that belong together
    unit: str = "texts"  # name of a row
    extra: Mapping[str, Any] = {}  # fields of the task that a saved model needs
    majority: Mapping[
        str, float
    ] = {}  # by split the share of its most frequent class; none where texts are read

    @property
    def num_classes(self) -> int:
        """Return the number of classes C."""
        return len(self.class_names)

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Splits to report on: the test splits, or the validation splits where there is no test."""
        return evaluation_splits(self.splits)


def is_qa_task(config) -> bool:
    """Return whether the config's task answers questions about texts."""
    return config.task in QA_TASKS


def token_cache(config) -> pathlib.Path | None:
    """Return the directory of tokenized texts; None where the config has no cache."""
    if config.data.cache_dir == "none":
        return None
    return pathlib.Path(config.data.cache_dir or user_cache("tokens"))


def splits_special(config) -> bool:
    """Return whether special tokens in a text are plain text. Older configs lack the field."""
    return config.data.get("split_special_tokens", False)


def load_data(config) -> Dataset:
    """Return the labelled texts that a config names.

    Raises:
      ValueError: train or validation is missing.
    """
    dataset = load_task(
        config.task,
        source=config.data.source or None,
        sources=dict(config.data.sources),
        columns=dict(config.data.columns),
        class_names=tuple(config.data.class_names) or None,
        split_seed=config.data.split_seed,
        split_fractions=dict(config.data.split_fractions) or None,
        num_train_examples=config.data.num_train_examples or None,
        options=file_options(config),
        skip_incomplete=config.data.get("skip_incomplete", False),
    )
    check_splits(config, dataset.splits)
    return dataset


def check_has_source(config) -> None:
    """Raise ValueError where neither the config nor a classification task has training texts."""
    if not is_qa_task(config):
        task = get_task(config.task)
        task = dataclasses.replace(task, source=config.data.source or task.source)
        check_source(task, config.data.sources)


def file_options(config) -> Options:
    """Return the form of text files. Older configs lack the fields."""
    return Options(config.data.get("encoding", ""), config.data.get("delimiter", ""))


def check_splits(config, splits) -> None:
    """Raise ValueError where train or validation is missing."""
    present = {"validation" if name.startswith("validation") else name for name in splits}
    for split in ("train", "validation"):
        if split not in present:
            raise ValueError(
                f"task {config.task!r} has no {split} split; there are {', '.join(splits)}; "
                "name one in config.data.sources or a share in config.data.split_fractions"
            )


def load_questions(config, directory, *, only: Sequence[str] = SPLITS) -> QADataset:
    """Return the questions that a config names, as rows of tokens.

    Args:
      config: of the run.
      directory: of the model, which has the tokenizer.
      only: splits to load.

    Raises:
      ValueError: the config sets a field of classification.
    """
    for field in ("encoding", "delimiter", "skip_incomplete"):
        if config.data.get(field):
            raise ValueError(
                f"config.data.{field} is given, but task {config.task!r} has questions, which "
                "are JSON in UTF-8 or "
                "with a byte order mark; leave it out"
            )
    for field in ("columns", "class_names"):
        if config.data[field]:
            raise ValueError(
                f"config.data.{field} is given, but task {config.task!r} has questions, whose "
                "fields have names of their own (docs/question-answering.md); leave it out and "
                "rename the fields of the data"
            )
    if config.data.get("metric", ""):
        raise ValueError(
            f"config.data.metric is {config.data.metric!r}, but task {config.task!r} has "
            "questions, which are scored "
            "by the metric of their kind; leave it out"
        )
    data = load_qa_task(
        config.task,
        load_core(directory, split_special_tokens=splits_special(config)),
        max_length=config.data.max_length,
        qa_config=config.qa,
        source=config.data.source,
        sources=dict(config.data.sources),
        split_fractions=dict(config.data.split_fractions) or None,
        split_seed=config.data.split_seed,
        num_train_examples=config.data.num_train_examples,
        cache_dir=token_cache(config),
        only=only,
    )
    if only == SPLITS:
        check_splits(config, data.splits)
    return data


def load_task_data(
    config, directory, *, only: Sequence[str] = SPLITS, saved_names: Sequence[str] = ()
) -> TaskData:
    """Return the task that a config names, in tokens.

    Args:
      config: of the run.
      directory: of the model, which has the tokenizer.
      only: splits to tokenize.
      saved_names: names of the classes in a saved model, for data that numbers its classes.

    Raises:
      ValueError: as of `load_task` and `load_qa_task`.
    """
    if is_qa_task(config):
        return reading_data(config, directory, only)
    return class_data(config, directory, only, saved_names=saved_names)


def class_data(
    config, directory, only: Sequence[str], *, saved_names: Sequence[str] = ()
) -> TaskData:
    """Return a classification task; arguments as in `load_task_data`."""
    dataset = load_data(config)
    tokenizer = load_tokenizer(directory, split_special_tokens=splits_special(config))
    class_names = dataset.task.class_names
    metric = check_metric(config.data.get("metric", "") or dataset.task.metric, class_names)
    shown_names = names_in_run(saved_names, class_names)

    def make_scorer(split: str, threshold: float | None = None) -> Scorer:
        return ClassScorer(
            metric, class_names=class_names, threshold=threshold, shown_names=shown_names
        )

    max_length = config.data.max_length or dataset.task.max_length
    asked = config.data.get("truncation_side", "")
    side = asked or saved_side(directory) or tokenizer.truncation_side
    notes = []
    if side != "right" and not asked:
        lost = {"left": "beginning", "middle": "middle"}[side]
        notes = [
            f"{directory} says that texts over {max_length} tokens lose their {lost}; "
            "config.data.truncation_side=right cuts off their end"
        ]
    if max_length > tokenizer.model_max_length:
        notes.append(
            f"{directory} says that it reads {tokenizer.model_max_length} tokens "
            f"(model_max_length); texts have up to {max_length} here"
        )
    cache_dir = token_cache(config)
    splits = {
        name: tokenize(
            examples, tokenizer, max_length=max_length, truncation_side=side, cache_dir=cache_dir
        )
        for name, examples in dataset.splits.items()
        if name.partition("_")[0] in only
    }
    return TaskData(
        name=dataset.task.name,
        metric=metric,
        head=CLASSIFICATION,
        class_names=shown_names,
        splits=splits,
        notes=(*dataset.notes, *notes, *summarize(dataset)),
        majority=majority_shares(dataset),
        make_scorer=make_scorer,
        extra={"truncation_side": side} | base_model_entry(config.model),
    )


def saved_side(directory) -> str:
    """Return where a saved model cuts long texts; empty where its config.json has no such field.

    Raises:
      ValueError: our part of config.json is damaged.
    """
    side = extra_if_ours(directory).get("truncation_side", "")
    if side not in ("", *SIDES):
        raise ValueError(
            f"{directory}: extra['truncation_side'] in config.json is {side!r:.60}; expected "
            f"{', '.join(SIDES)}"
        )
    return side


def check_metric(metric: str, class_names: tuple[str, ...]) -> str:
    """Return the metric's name for these classes. Raises ValueError where it does not fit them."""
    try:
        ClassScorer(metric, class_names=class_names)
    except ValueError as error:
        raise ValueError(f"config.data.metric: {error}") from error
    return metric_name(metric, len(class_names))


def reading_data(config, directory, only: Sequence[str]) -> TaskData:
    """Return a task of questions about texts."""
    data = load_questions(config, directory, only=only)
    splits = {name: split.tokenized() for name, split in data.splits.items()}
    found = functools.partial(
        TaskData,
        name=data.task.name,
        splits=splits,
        notes=data.notes,
        unit=UNITS[data.task.kind],
        extra={"qa": config.qa.to_dict()} | base_model_entry(config.model),
    )
    of_kind = {
        QAKind.MULTIPLE_CHOICE: choice_data,
        QAKind.HOTPOT: hotpot_data,
        QAKind.WIKIHOP: wikihop_data,
    }
    return of_kind.get(data.task.kind, span_data)(found, config, data)


def splits_of(data: QADataset, kind: type[SplitT]) -> dict[str, SplitT]:
    """Return the splits of a task, whose kind decides their class."""
    return {name: split for name, split in data.splits.items() if isinstance(split, kind)}


def span_data(found: Callable, config, data: QADataset) -> TaskData:
    """Return a task of answers that are spans of a text."""
    splits = splits_of(data, SpanSplit)

    def make_scorer(split: str, threshold: float | None = None) -> Scorer:
        return span_scorer(splits[split], config.qa, data.task.allows_null, threshold)

    notes = []
    if data.task.allows_null:
        notes = [
            f"{name}: each of its {split.num_questions} questions has an answer, so that models "
            "will always give one; with questions without, a threshold would be tuned"
            for name, split in splits.items()
            if name.startswith("validation")
            and all(question.answers for question in split.questions)
        ]
    return found(
        notes=(*data.notes, *notes), metric="f1", head=SPAN, class_names=(), make_scorer=make_scorer
    )


def choice_data(found: Callable, config, data: QADataset) -> TaskData:
    """Return a task of options, scored against each other or each alone."""
    splits = splits_of(data, MultipleChoiceSplit)
    counts = {split.rows.num_options for split in splits.values()}
    if len(counts) > 1:
        raise ValueError(
            f"task {config.task!r}: splits of {sorted(counts)} options; expected the same in all"
        )
    (num_options,) = counts
    alone = config.qa.score_options_independently
    notes = []
    if "train" in splits and (num_cut := int(np.sum(splits["train"].rows.is_cut))):
        notes = [
            f"train: {num_cut} of {len(splits['train'].rows)} options lose the end of their "
            f"article at {config.data.max_length} tokens; config.data.max_length sets another "
            "length"
        ]
    return found(
        notes=(*data.notes, *notes),
        metric="accuracy",
        head=CLASSIFICATION if alone else choice(num_options=num_options),
        class_names=PER_OPTION if alone else (),
        group=num_options,
        make_scorer=lambda split, threshold=None: ChoiceScorer(splits[split].rows),
    )


def hotpot_data(found: Callable, config, data: QADataset) -> TaskData:
    """Return a task of spans, yes or no, and the sentences that support them (HotpotQA)."""
    fields, splits = config.qa, splits_of(data, HotpotSplit)

    def make_scorer(split: str, threshold: float | None = None) -> Scorer:
        return HotpotScorer(splits[split].rows, max_answer_tokens=fields.max_answer_tokens)

    head = hotpot(fields.max_sentences, protects=fields.protects_markers)
    return found(metric="joint_f1", head=head, class_names=(), make_scorer=make_scorer)


def wikihop_data(found: Callable, config, data: QADataset) -> TaskData:
    """Return a task of candidates, scored against each other (WikiHop)."""
    splits = splits_of(data, WikihopSplit)
    return found(
        metric="accuracy",
        class_names=(),
        head=candidates(config.qa.max_candidates, protects=config.qa.protects_markers),
        make_scorer=lambda split, threshold=None: WikihopScorer(splits[split].rows),
    )


def span_scorer(split: SpanSplit, reading, allows_null: bool, threshold: float | None) -> Scorer:
    """Return exact match and F1 of a split's answers."""
    return SpanScorer(
        split.windows,
        split.questions,
        n_best_size=reading.n_best_size,
        max_answer_tokens=reading.max_answer_tokens,
        allows_null=allows_null,
        threshold=threshold,
    )
