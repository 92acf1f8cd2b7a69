"""The lines on a task of tagged words say which words and splits spoil a score."""

import dataclasses

from adapler_jax.data.classification.tasks import get_task
from adapler_jax.data.tagging.rows import tokenize_sentences
from adapler_jax.data.tagging.sentences import Sentences, TaggedData, describe
from adapler_jax.training.tag_task import explain_scores
from tests.data.vocabulary import build_core


def make_data(**tags):
    """Return sentences of two words by split."""
    words = ("ann", "saw")
    splits = {name: Sentences([words], [tuple(of.split())], name) for name, of in tags.items()}
    names = tuple(dict.fromkeys(tag for part in splits.values() for tag in part.tags[0]))
    return TaggedData(dataclasses.replace(get_task("custom_tokens"), class_names=names), splits, ())


def explain(data, max_length, metric="entity_f1"):
    """Return the lines on the scores."""
    core, names = build_core(["ann", "saw"]), data.task.class_names
    rows = {
        name: tokenize_sentences(part, core, names, max_length=max_length)
        for name, part in data.splits.items()
    }
    return list(explain_scores(data, rows, metric=metric, max_length=max_length))


def test_words_that_are_cut_off_are_counted():
    data = make_data(train="B-PER O")
    assert explain(data, 4) == []
    (line,) = explain(data, 3)
    assert line.startswith("train: 1 words have no token at 3 tokens a sentence")


def test_a_split_without_entities_is_named():
    data = make_data(train="B-PER O", validation="O O")
    (line,) = explain(data, 4)
    assert line == "validation: there are no entities, so entity_f1 is 0; correct the split"
    assert explain(data, 4, "word_accuracy") == []


def test_an_outside_tag_in_lower_case_is_named():
    assert (
        describe(make_data(train="b-per o"))[-1] == "tags: 'o' is a tag; only 'O' is of no entity"
    )
    assert len(describe(make_data(train="B-PER O"))) == 2
