"""Load a task of labelled texts in tokens: classes, labels, or numbers."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.classification.examples import Dataset, load_task
from adapler_jax.data.classification.label_sets import SEPARATOR
from adapler_jax.data.classification.summary import majority_shares, summarize
from adapler_jax.data.classification.task_tables import check_source
from adapler_jax.data.classification.tasks import get_task
from adapler_jax.data.qa.tasks import QA_TASKS
from adapler_jax.data.ranking.lists import train_in_lists
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.tokenization.pieces import SIDES
from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.data.tokenization.tokens import tokenize
from adapler_jax.evaluation.label_scoring import LabelScorer
from adapler_jax.evaluation.number_scoring import NumberScorer
from adapler_jax.evaluation.scoring import ClassScorer, Scorer
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL, Head, regression
from adapler_jax.heads.regression import IDENTITY, SIGMOID, with_list_loss
from adapler_jax.io.user_folders import user_cache
from adapler_jax.metrics.classification import metric_name
from adapler_jax.metrics.label_sets import DEFAULT_THRESHOLD, THRESHOLDS, check_label_metric
from adapler_jax.metrics.ranking import (
    CORRELATIONS,
    QUERY_METRICS,
    check_number_metric,
    text_numbers,
)
from adapler_jax.training.listwise import keep_lists, list_metric, list_size_of
from adapler_jax.training.task_record import TaskData
from adapler_jax.weights.base_model import base_model_entry
from adapler_jax.weights.labels import names_in_run
from adapler_jax.weights.save import class_names_of, extra_if_ours
from adapler_jax.weights.score_heads import head_of_checkpoint
from adapler_jax.weights.section import SINGLE_TEXTS


def is_qa_task(config) -> bool:
    """Return whether the config's task answers questions about texts."""
    return config.task in QA_TASKS


def has_classes(config) -> bool:
    """Return whether the config's task has classes of texts, one of which is right."""
    if is_qa_task(config):
        return False
    task = get_task(config.task)
    return not (task.has_numbers or task.has_label_sets or task.has_tags)


def token_cache(config) -> pathlib.Path | None:
    """Return the directory of tokenized texts; None where the config has no cache."""
    if config.data.cache_dir == "none":
        return None
    return pathlib.Path(config.data.cache_dir or user_cache("tokens"))


def splits_special(config) -> bool:
    """Return whether special tokens in a text are plain text. Older configs lack the field."""
    return config.data.get("split_special_tokens", False)


def load_data(config, *, draws: bool = True) -> Dataset:
    """Return the labelled texts that a config names.

    Args:
      config: of the run.
      draws: draw config.data.num_train_examples of the training; False to take all.

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
        num_train_examples=(draws and config.data.num_train_examples) or None,
        options=file_options(config),
        skip_incomplete=config.data.get("skip_incomplete", False),
        label_separator=config.data.get("label_separator", SEPARATOR),
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


class TokenizedTexts(NamedTuple):
    """The texts of a task in tokens."""

    splits: dict[str, Tokenized]
    notes: tuple[str, ...]  # on the length of texts
    extra: dict[str, Any]  # fields that a saved model needs


def class_data(
    config, directory, only: Sequence[str], *, saved_names: Sequence[str] = ()
) -> TaskData:
    """Return a classification task; arguments as in `load_task_data`."""
    check_no_number_fields(config)
    dataset = load_data(config)
    class_names = dataset.task.class_names
    metric = check_metric(config.data.get("metric", "") or dataset.task.metric, class_names)
    shown_names = names_in_run(saved_names, class_names)

    def make_scorer(split: str, threshold: float | None = None) -> Scorer:
        return ClassScorer(
            metric, class_names=class_names, threshold=threshold, shown_names=shown_names
        )

    return make_task(
        dataset,
        tokenize_splits(config, directory, dataset, only),
        metric=metric,
        head=CLASSIFICATION,
        class_names=shown_names,
        majority=majority_shares(dataset),
        make_scorer=make_scorer,
    )


def make_task(dataset: Dataset, texts: TokenizedTexts, **fields: Any) -> TaskData:
    """Return the record of a task; fields are the ones that neither data nor tokens give."""
    return TaskData(
        name=dataset.task.name,
        splits=texts.splits,
        notes=(*dataset.notes, *texts.notes, *summarize(dataset)),
        extra=texts.extra,
        **fields,
    )


def check_no_number_fields(config) -> None:
    """Raise ValueError where fields of numbers are given for a task of classes."""
    for name in ("activation", "protects_query", "list_size"):
        if config.data.get(name):
            raise ValueError(
                f"config.data.{name} is given, but task {config.task!r} has classes; leave it out"
            )


def label_set_data(
    config, directory, only: Sequence[str], *, saved_names: Sequence[str] = ()
) -> TaskData:
    """Return a task of texts with several labels; arguments as in `load_task_data`."""
    check_no_number_fields(config)
    dataset = load_data(config)
    metric = config.data.get("metric", "") or dataset.task.metric
    check_label_metric(metric)
    shown_names = names_in_run(saved_names, dataset.task.class_names)
    default_C = thresholds_by_name(directory, dataset.task.class_names)

    def make_scorer(split: str, threshold: Sequence[float] | None = None) -> Scorer:
        return LabelScorer(
            metric, class_names=shown_names, threshold_C=threshold, default_C=default_C
        )

    return make_task(
        dataset,
        tokenize_splits(config, directory, dataset, only),
        metric=metric,
        head=MULTI_LABEL,
        class_names=shown_names,
        make_scorer=make_scorer,
    )


def thresholds_by_name(directory, class_names: Sequence[str]) -> list[float]:
    """Return the threshold that the model of a directory has for each label, else the default."""
    saved = extra_if_ours(directory).get(THRESHOLDS)
    by_name = dict(zip(class_names_of(directory) or (), saved)) if saved else {}
    return [by_name.get(name, DEFAULT_THRESHOLD) for name in class_names]


def number_data(
    config, directory, only: Sequence[str], *, saved_names: Sequence[str] = ()
) -> TaskData:
    """Return a task of texts or pairs with numbers; arguments as in `load_task_data`.

    Raises:
      ValueError: as in `load_task`, a metric or a field does not fit, or a number is outside of
        [0, 1] where a sigmoid gives the numbers.
    """
    list_size = list_size_of(config)
    dataset = load_data(config, draws=not list_size)
    names = names_in_run(saved_names, dataset.task.class_names)
    if config.data.class_names and not names:
        raise ValueError(
            f"config.data.class_names is given, but task {config.task!r} has one number a text; "
            "leave it out"
        )
    metric = config.data.get("metric", "") or dataset.task.metric
    check_number_metric(metric)
    if list_size:
        metric = list_metric(config, dataset, list_size)
    head = choose_head(config, directory, num_outputs=len(names) or 1)
    activation = dict(head.factory_kwargs)["activation"]
    for name, examples in dataset.splits.items():
        check_numbers(examples.labels, activation, where=f"the split {name}")
    groups = {name: text_numbers(examples.texts) for name, examples in dataset.splits.items()}
    check_queries(config, dataset, metric, groups)
    if list_size:
        dataset = train_in_lists(
            dataset, list_size, limit=config.data.num_train_examples, seed=config.data.split_seed
        )
        head = with_list_loss(head, list_size)
    texts = tokenize_splits(config, directory, dataset, only)
    if list_size and "train" in texts.splits:
        train = keep_lists(texts.splits["train"], list_size)
        texts = texts._replace(splits=texts.splits | {"train": train})
    if len(dataset.task.text_fields) == 1:
        check_protects_none(config, head)
        texts = texts._replace(extra=texts.extra | {SINGLE_TEXTS: True})

    def make_scorer(split: str, threshold: float | None = None) -> Scorer:
        return NumberScorer(metric, activation=activation, group_E=groups[split], names=names)

    return make_task(
        dataset, texts, metric=metric, head=head, class_names=names, make_scorer=make_scorer
    )


def choose_head(config, directory, *, num_outputs: int = 1) -> Head:
    """Return the head of numbers, by config.data.activation and config.data.protects_query.

    Without an activation it is the one of the model's own head, else identity. A query that the
    model's own head protects stays protected.

    Args:
      config: of the run.
      directory: of the model.
      num_outputs: numbers of a text.

    Raises:
      ValueError: the config names another activation.
    """
    head = CLASSIFICATION if config.reinit_head else head_of_checkpoint(directory)
    own = dict(head.factory_kwargs)
    return regression(
        config.data.get("activation", "") or own.get("activation", IDENTITY),
        config.data.get("protects_query", False) or own.get("protects_query", False),
        num_outputs,
    )


def check_protects_none(config, head: Head) -> None:
    """Raise ValueError where a head protects the queries of single texts."""
    if dict(head.factory_kwargs)["protects_query"]:
        raise ValueError(
            f"protects_query is set, but task {config.task!r} has single texts, whose tokens would "
            "all be kept: leave it out, or name the second text in config.data.columns"
        )


def check_numbers(number_E: np.ndarray, activation: str, *, where: str) -> None:
    """Raise ValueError where a sigmoid cannot give a number of a split."""
    outside_E = (number_E < 0) | (number_E > 1)
    if activation == SIGMOID and outside_E.any():
        raise ValueError(
            f"{where} has the number {number_E[outside_E][0]:g}; a sigmoid gives numbers from 0 to "
            "1: scale the labels, or set config.data.activation=identity"
        )


def check_queries(config, dataset: Dataset, metric: str, groups: dict[str, np.ndarray]) -> None:
    """Raise ValueError for a metric of orders without a query to order."""
    if metric not in QUERY_METRICS:
        return
    has_pairs = len(dataset.task.text_fields) == 2
    if not has_pairs or dataset.task.class_names:
        found = "several numbers a text" if has_pairs else "single texts"
        raise ValueError(
            f"config.data.metric is {metric!r}, which orders the documents of a query by one "
            f"number, but task {config.task!r} has {found}; choose {' or '.join(CORRELATIONS)}"
        )
    for name, group_E in groups.items():
        has_orders = len(np.unique(group_E)) < len(group_E)
        if name != "train" and not has_orders:
            raise ValueError(
                f"config.data.metric is {metric!r}, but each first text of {name} is in one row, "
                "so there are no documents to order; give all documents of a query, or choose "
                "spearman"
            )


def tokenize_splits(config, directory, dataset: Dataset, only: Sequence[str]) -> TokenizedTexts:
    """Return the texts of some splits in tokens."""
    tokenizer = load_tokenizer(directory, split_special_tokens=splits_special(config))
    max_length = config.data.max_length or dataset.task.max_length
    side, notes = choose_side(config, directory, tokenizer, max_length)
    cache_dir = token_cache(config)
    splits = {
        name: tokenize(
            examples, tokenizer, max_length=max_length, truncation_side=side, cache_dir=cache_dir
        )
        for name, examples in dataset.splits.items()
        if name.partition("_")[0] in only
    }
    return TokenizedTexts(
        splits, tuple(notes), {"truncation_side": side} | base_model_entry(config.model)
    )


def choose_side(config, directory, tokenizer, max_length: int) -> tuple[str, list[str]]:
    """Return where long texts lose tokens, by the config or the model, and notes on lengths."""
    asked = config.data.get("truncation_side", "")
    side = asked or saved_side(directory) or tokenizer.truncation_side
    notes = []
    if side != "right" and not asked:
        lost = {"left": "beginning", "middle": "middle"}[side]
        notes.append(
            f"{directory} says that texts over {max_length} tokens lose their {lost}; "
            "config.data.truncation_side=right cuts off their end"
        )
    if max_length > tokenizer.model_max_length:
        notes.append(
            f"{directory} says that it reads {tokenizer.model_max_length} tokens "
            f"(model_max_length); texts have up to {max_length} here"
        )
    return side, notes


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
