"""Load a task in tokens, of texts or of questions, for training and evaluation."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from adapler_jax.data.classification.tasks import get_task
from adapler_jax.data.qa.splits import (
    HotpotSplit,
    MultipleChoiceSplit,
    QAKind,
    SpanSplit,
    WikihopSplit,
)
from adapler_jax.data.qa.tasks import QADataset, load_qa_task
from adapler_jax.data.split_names import SPLITS
from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.evaluation.question_answering import (
    ChoiceScorer,
    HotpotScorer,
    SpanScorer,
    WikihopScorer,
)
from adapler_jax.evaluation.scoring import Scorer
from adapler_jax.heads import CLASSIFICATION, SPAN, candidates, choice, hotpot, with_pooling
from adapler_jax.heads.embedding import CLS
from adapler_jax.training.similarity_task import similarity_data
from adapler_jax.training.tag_task import tag_data
from adapler_jax.training.task_record import TaskData
from adapler_jax.training.text_tasks import (
    check_splits,
    class_data,
    is_qa_task,
    label_set_data,
    number_data,
    splits_special,
    token_cache,
)
from adapler_jax.weights.base_model import base_model_entry
from adapler_jax.weights.config import CONFIG_FILE, pooling_of_config, read_json

UNITS = {
    QAKind.SPAN: "windows",
    QAKind.MULTIPLE_CHOICE: "options",
    QAKind.HOTPOT: "questions",
    QAKind.WIKIHOP: "rows",
}
PER_OPTION = ("wrong", "right")  # classes of an option that is judged alone


SplitT = TypeVar("SplitT")


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
    if config.data.get("list_size"):
        raise ValueError(
            f"config.data.list_size is given, but task {config.task!r} has questions; leave it out"
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
    if get_task(config.task).has_tags:
        return tag_data(config, directory, only, saved_names=saved_names)
    if get_task(config.task).compares_vectors:
        return similarity_data(config, directory, only)
    load = label_set_data if get_task(config.task).has_label_sets else class_data
    if get_task(config.task).has_numbers:
        load = number_data
    task = load(config, directory, only, saved_names=saved_names)
    path = pathlib.Path(directory) / CONFIG_FILE
    pooling = pooling_of_config(read_json(path), path) if path.is_file() else CLS
    return task._replace(head=with_pooling(task.head, pooling))


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
