"""Which row of a checkpoint's classifier is which class of the data."""

import re

import jax
import numpy as np
import pytest

from adapler_jax.heads import SPAN, choice
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import read_class_names
from adapler_jax.weights.labels import align_classes, names_in_run
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import save_model

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("own", "wanted", "rows", "note"),
    [
        (("neg", "pos"), ("neg", "pos"), (0, 1), "^$"),
        (
            ("pos", "neg"),
            ("neg", "pos"),
            (1, 0),
            "rows were put into the data's order neg, pos by name",
        ),
        (("c", "a", "b"), ("a", "b", "c"), (1, 2, 0), "the checkpoint has c, a, b"),
        (
            ("POSITIVE", "NEGATIVE"),
            ("negative", "positive"),
            (1, 0),
            "NEGATIVE as negative, POSITIVE as positive",
        ),
        (
            ("Not_Equivalent", "equivalent"),
            ("not equivalent", "equivalent"),
            (0, 1),
            "written otherwise",
        ),
        (
            ("negative", "positive"),
            ("0", "1"),
            (0, 1),
            "numbers its classes; .*: 0 is negative, 1 is positive",
        ),
        (("negative", "positive"), ("1", "0"), (1, 0), "1 is positive, 0 is negative"),
        (("negative", "positive"), ("-1", "1"), (0, 1), "-1 is negative, 1 is positive"),
        (("1 star", "2 stars", "3 stars"), ("1", "2", "3"), (0, 1, 2), "1 is 1 star"),
        (
            ("LABEL_0", "LABEL_1"),
            ("bad", "good"),
            (0, 1),
            "calls its classes LABEL_0, LABEL_1; .* assumed .*: bad,",
        ),
        (("LABEL_1", "LABEL_0"), ("bad", "good"), (1, 0), "assumed"),
        (("LABEL_1", "LABEL_0"), ("0", "1"), (1, 0), "0 is LABEL_0, 1 is LABEL_1"),
        (("0", "1"), ("bad", "good"), (0, 1), "calls its classes 0, 1; .* assumed"),
        (None, ("bad", "good"), (0, 1), "names no classes; .* assumed"),
        (
            ("neg", "pos"),
            ("negative", "positive"),
            None,
            "classes are neg, pos, the data's negative, positive",
        ),
        (
            ("3 stars", "2 stars", "1 star"),
            ("1", "2", "3"),
            (2, 1, 0),
            "matched by the numbers in their names: 1 is 1 star, 2 is 2 stars",
        ),
        (("1", "2"), ("2 stars", "1 star"), (1, 0), "2 stars is 2, 1 star is 1"),
        (("2 stars", "1 star"), ("0", "1"), (0, 1), "checkpoint's order: 0 is 2 stars"),
        (("class 0", "class 1"), ("-1", "0"), (0, 1), "checkpoint's order: -1 is class 0"),
        (("caf\u00e9", "bar"), ("bar", "cafe\u0301"), (1, 0), "written otherwise"),
        (("True", "False"), ("False", "True"), (1, 0), "by name"),
        (("A", "a"), ("a", "b"), None, "classes are A, a"),
        (("Yes", "yes"), ("YES", "yEs"), None, "classes are Yes, yes"),
    ],
)
def test_rows_follow_the_names(own, wanted, rows, note):
    found = align_classes(own, wanted)
    assert found.rows == rows
    assert re.search(note, found.note), found.note


@pytest.mark.parametrize(
    ("saved", "data", "names"),
    [
        (("bad", "good"), ("0", "1"), ("bad", "good")),
        (("0", "1"), ("0", "1"), ("0", "1")),
        (("0", "1"), ("False", "True"), ("0", "1")),  # runs of release 0.1
        (("False", "True"), ("False", "True"), ("False", "True")),
        (("0", "1"), ("a", "b"), ("a", "b")),
        (("bad", "good"), ("0", "1", "2"), ("0", "1", "2")),
    ],
)
def test_classes_of_a_run_have_the_saved_names_where_the_data_numbers_them(saved, data, names):
    assert names_in_run(saved, data) == names


def load(write_checkpoint, raw_config, tensors, *, names, wanted, changes=None, **options):
    """Load a checkpoint of three classes with other names."""
    labels = (
        {}
        if names is None
        else {"id2label": {str(index): name for index, name in enumerate(names)}}
    )
    raw = (
        {key: value for key, value in raw_config.items() if key != "id2label"}
        | labels
        | (changes or {})
    )
    return load_pretrained(write_checkpoint(tensors, raw), KEY, class_names=wanted, **options)


def test_weights_and_biases_are_permuted_together(write_checkpoint, raw_config, tensors):
    loaded = load(
        write_checkpoint, raw_config, tensors, names=("b", "c", "a"), wanted=("a", "b", "c")
    )
    classifier = loaded.params["head"]["classifier"]
    np.testing.assert_array_equal(classifier["kernel"], tensors["classifier.weight"][[2, 0, 1]].T)
    np.testing.assert_array_equal(classifier["bias"], tensors["classifier.bias"][[2, 0, 1]])
    assert loaded.class_names == ("a", "b", "c") and loaded.fresh == {}
    (note,) = loaded.notes
    assert note == (
        "the classifier's rows were put into the data's order a, b, c by name; "
        "the checkpoint has b, c, a"
    )


def test_other_names_start_the_classifier_afresh_and_both_lists_are_named(
    write_checkpoint, raw_config, tensors
):
    loaded = load(
        write_checkpoint, raw_config, tensors, names=("x", "y", "z"), wanted=("a", "b", "c")
    )
    assert not np.array_equal(
        loaded.params["head"]["classifier"]["kernel"], tensors["classifier.weight"].T
    )
    np.testing.assert_array_equal(
        loaded.params["head"]["pooler"]["kernel"], tensors["bert.pooler.dense.weight"].T
    )
    (note,) = loaded.notes
    assert note.startswith(
        "started afresh, classifier: the checkpoint's classes are x, y, z, the data's a, b, c"
    )
    assert loaded.class_names is None and list(loaded.fresh) == ["classifier"]


def test_another_number_of_classes_names_both_lists(write_checkpoint, raw_config, tensors):
    loaded = load(
        write_checkpoint,
        raw_config,
        tensors,
        names=("neg", "neutral", "pos"),
        wanted=("neg", "pos"),
    )
    (note,) = loaded.notes
    assert (
        "has 3 classes, 2 are needed" in note
        and "neg, neutral, pos" in note
        and "the data's neg, pos" in note
    )
    assert loaded.params["head"]["classifier"]["bias"].shape == (2,)


def test_names_of_label2id_serve_where_id2label_has_none(write_checkpoint, raw_config, tensors):
    changes = {"label2id": {"a": 2, "b": 0, "c": 1}}
    for names in (None, ("LABEL_0", "LABEL_1", "LABEL_2")):
        loaded = load(
            write_checkpoint,
            raw_config,
            tensors,
            names=names,
            wanted=("a", "b", "c"),
            changes=changes,
        )
        np.testing.assert_array_equal(
            loaded.params["head"]["classifier"]["bias"], tensors["classifier.bias"][[2, 0, 1]]
        )


@pytest.mark.parametrize("numbers", [(2, 0, 1), ("2", "0", "1")])
def test_label2id_names_the_classes_alone_in_numbers_or_texts(numbers):
    raw = {"label2id": dict(zip("abc", numbers))}
    assert read_class_names(raw, "config.json") == ("b", "c", "a")
    assert read_class_names({"label2id": {"a": "1", "b": "x"}}, "config.json") is None


def test_more_names_than_outputs_are_named(write_checkpoint, raw_config, tensors):
    with pytest.raises(ValueError, match=r"id2label names 2 classes, a, b, and the classifier has"):
        load(write_checkpoint, raw_config, tensors, names=("a", "b"), wanted=("a", "b", "c"))


def test_contradicting_names_are_reported(write_checkpoint, raw_config, tensors):
    changes = {"label2id": {"a": 1, "b": 0, "c": 2}}
    loaded = load(
        write_checkpoint,
        raw_config,
        tensors,
        names=("a", "b", "c"),
        wanted=("a", "b", "c"),
        changes=changes,
    )
    (note,) = loaded.notes
    assert (
        "contradict each other" in note and "a, b, c against b, a, c; id2label is followed" in note
    )


@pytest.mark.parametrize(
    "kind", ["regression", "multi_label_classification", ["single_label_classification"]]
)
def test_other_kinds_of_problems_are_refused_with_the_way_out(
    write_checkpoint, raw_config, tensors, kind
):
    changes = {"problem_type": kind}
    with pytest.raises(
        ValueError,
        match=r"config.json: .*problem_type is .*heads classification, span.*reinit_head",
    ):
        load(
            write_checkpoint,
            raw_config,
            tensors,
            names=None,
            wanted=("a", "b", "c"),
            changes=changes,
        )
    loaded = load(
        write_checkpoint,
        raw_config,
        tensors,
        names=None,
        wanted=("a", "b"),
        changes=changes,
        reinit_head=True,
    )
    assert loaded.notes == ("started afresh, pooler and classifier: config.reinit_head",)
    span = load(
        write_checkpoint, raw_config, tensors, names=None, wanted=None, changes=changes, head=SPAN
    )
    assert span.params["head"].keys() == {"span"}


def test_a_classifier_of_one_output_is_refused_for_classes_and_taken_for_options(
    write_checkpoint, raw_config, tensors
):
    one = tensors | {name: tensors[name][:1] for name in ("classifier.weight", "classifier.bias")}
    with pytest.raises(
        ValueError, match="has 1 outputs, one output: a regression or a multiple choice"
    ):
        load(write_checkpoint, raw_config, one, names=("LABEL_0",), wanted=("a", "b"))
    loaded = load(
        write_checkpoint, raw_config, one, names=("LABEL_0",), wanted=None, head=choice(4)
    )
    np.testing.assert_array_equal(
        loaded.params["head"]["classifier"]["kernel"], one["classifier.weight"].T
    )


def test_a_classifier_of_several_layers_starts_afresh(write_checkpoint, tensors):
    deep = {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
    deep |= {
        "classifier.0.weight": np.zeros((8, 16), np.float32),
        "classifier.2.weight": np.zeros((2, 8), np.float32),
    }
    loaded = load_pretrained(write_checkpoint(deep), KEY, class_names=("a", "b"))
    (note,) = loaded.notes
    assert (
        "the checkpoint's is not one linear layer, it has classifier.0.weight, classifier.2.weight"
        in note
    )


def test_our_own_models_start_others_by_name(tmp_path, write_checkpoint, tensors):
    loaded = load_pretrained(write_checkpoint(tensors), KEY)
    params = loaded.params | {"pruner": {}}
    directory = save_model(
        tmp_path / "model", params, loaded.config, class_names=("bad", "so-so", "good")
    )
    again = load_pretrained(directory, KEY, class_names=("bad", "good", "so-so"))
    np.testing.assert_array_equal(
        again.params["head"]["classifier"]["bias"], tensors["classifier.bias"][[0, 2, 1]]
    )


def test_a_distilbert_keeps_its_classifier_by_name(tmp_path, write_checkpoint, tensors):
    loaded = load_pretrained(write_checkpoint(tensors), KEY)
    sizes = {"num_segments": 1, "pooler_activation": "relu"}
    config = EncoderConfig(4, 2, 16, 24, 50, 12, **sizes)
    params = loaded.params | {"pruner": {}}
    params["encoder"]["embeddings"]["segment"] = params["encoder"]["embeddings"]["segment"][:1]
    directory = save_model(
        tmp_path / "model", params, config, class_names=("POSITIVE", "NEUTRAL", "NEGATIVE")
    )
    again = load_pretrained(directory, KEY, class_names=("negative", "neutral", "positive"))
    np.testing.assert_array_equal(
        again.params["head"]["classifier"]["bias"], tensors["classifier.bias"][[2, 1, 0]]
    )


def test_arguments_that_contradict_each_other_are_refused(write_checkpoint, tensors):
    directory = write_checkpoint(tensors)
    for options in (
        {"class_names": ("a", "a", "b")},
        {"class_names": ("a", "b"), "num_classes": 3},
    ):
        with pytest.raises(ValueError, match="expected one name for each"):
            load_pretrained(directory, KEY, **options)
    with pytest.raises(
        ValueError, match="1000000000 positions are requested; expected at most 65536"
    ):
        load_pretrained(directory, KEY, num_positions=10**9)
