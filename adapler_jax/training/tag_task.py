"""Load a task of words with tags, in tokens."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adapler_jax.data.tagging.rows import TaggedRows, tokenize_sentences
from adapler_jax.data.tagging.sentences import TaggedData, describe, load_sentences
from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.evaluation.scoring import Scorer
from adapler_jax.evaluation.tag_scoring import TagScorer
from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.metrics.entities import (
    ENTITY_F1,
    WORD_ACCURACY,
    check_tag_metric,
    find_entities,
    has_entities,
)
from adapler_jax.training.task_record import TaskData
from adapler_jax.training.text_tasks import (
    check_no_number_fields,
    check_splits,
    choose_side,
    file_options,
    splits_special,
)
from adapler_jax.weights.base_model import base_model_entry
from adapler_jax.weights.save import class_names_of
from adapler_jax.weights.score_heads import head_of_checkpoint


def tag_data(
    config, directory: Path, only: Sequence[str], *, saved_names: Sequence[str] = ()
) -> TaskData:
    """Return a task of words with tags; arguments as in `load_task_data`.

    Raises:
      ValueError: as in `load_sentences`, or a metric or a field does not fit.
    """
    check_no_number_fields(config)
    data = load_tagged(config, directory, saved_names)
    metric = choose_metric(config, data)
    tokenizer = load_tokenizer(str(directory), split_special_tokens=splits_special(config))
    max_length = config.data.max_length or data.task.max_length
    side, notes = choose_side(config, directory, tokenizer, max_length)
    names = data.task.class_names
    rows = {
        name: tokenize_sentences(
            sentences,
            tokenizer.backend_tokenizer,
            names,
            max_length=max_length,
            truncation_side=side,
        )
        for name, sentences in data.splits.items()
        if name.partition("_")[0] in only
    }

    def make_scorer(split: str, threshold: float | None = None) -> Scorer:
        tags, slots = data.splits[split].tags, rows[split].slots
        return TagScorer(metric, class_names=names, tags=tags, slots=slots)

    lines = explain_scores(data, rows, metric=metric, max_length=max_length)
    return TaskData(
        name=data.task.name,
        metric=metric,
        head=TOKEN_CLASSIFICATION,
        class_names=names,
        splits={name: found.tokenized for name, found in rows.items()},
        notes=(*data.notes, *notes, *describe(data), *lines),
        make_scorer=make_scorer,
        unit="sentences",
        extra={"truncation_side": side} | base_model_entry(config.model),
    )


def explain_scores(
    data: TaggedData, rows: Mapping[str, TaggedRows], *, metric: str, max_length: int
) -> Iterator[str]:
    """Yield a line for each split whose words are cut off, or that has no entities to find.

    Args:
      data: the sentences.
      rows: their tokens, by split.
      metric: of the score.
      max_length: tokens of a sentence.
    """
    for name, found in rows.items():
        if found.num_lost:
            yield (
                f"{name}: {found.num_lost} words have no token at {max_length} tokens a "
                "sentence, so they count as words without a tag"
            )
        entities = itertools.chain.from_iterable(map(find_entities, data.splits[name].tags))
        if metric == ENTITY_F1 and not any(entities):
            yield f"{name}: there are no entities, so {ENTITY_F1} is 0; correct the split"


def load_tagged(config, directory: Path, saved_names: Sequence[str]) -> TaggedData:
    """Return the sentences that a config names.

    Args:
      config: of the run.
      directory: of the model. Its tags are taken where they include the data's.
      saved_names: tags of a run's models; none before there are some.

    Raises:
      ValueError: as in `load_sentences`, or train or validation is missing.
    """
    has_tags = head_of_checkpoint(directory) is TOKEN_CLASSIFICATION and not config.reinit_head
    data = load_sentences(
        config.task,
        source=config.data.source or None,
        sources=dict(config.data.sources),
        columns=dict(config.data.columns),
        class_names=tuple(saved_names) or tuple(config.data.class_names) or None,
        own_names=(class_names_of(directory) or ()) if has_tags else (),
        split_seed=config.data.split_seed,
        split_fractions=dict(config.data.split_fractions) or None,
        num_train_examples=config.data.num_train_examples or None,
        options=file_options(config),
        skip_incomplete=config.data.get("skip_incomplete", False),
    )
    check_splits(config, data.splits)
    if len(data.task.class_names) < 2:
        raise ValueError(
            f"task {config.task!r} has the tags {', '.join(data.task.class_names)}; expected two "
            "or more"
        )
    return data


def choose_metric(config, data: TaggedData) -> str:
    """Return config.data.metric, or without one F1 of entities, of other tags the accuracy.

    Raises:
      ValueError: there is no such metric of tags.
    """
    metric = config.data.get("metric", "")
    if not metric:
        return data.task.metric if has_entities(data.task.class_names) else WORD_ACCURACY
    check_tag_metric(metric)
    return metric
