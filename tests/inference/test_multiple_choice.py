"""A saved model of multiple choice, asked one question and many."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from adapler_jax import heads
from adapler_jax.inference.multiple_choice import MultipleChoice
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.marks import mostly_long

LIMITS = {"max_option_tokens": 4}
QUESTIONS = [
    ("film", "a film .", ["good", "bad"]),
    ("a", "good film " * 20, ("bad", "good", "a film")),
    ("film", "", ["good", "bad"]),
    ("", "a bad bad film", ["good good good good good good", "bad"]),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories of two models: options against each other, and each alone."""
    root, params = tmp_path_factory.mktemp("chooser"), tiny.make_params()
    head = heads.choice(num_options=2)
    save = functools.partial(
        save_model,
        config=tiny.CONFIG,
        pruner_name="adapler",
        max_length=16,
        tokenizer=build_tokenizer(),
    )
    one, two = (
        {"kernel": x["kernel"][:, :n], "bias": x["bias"][:n]}
        for n in (1, 2)
        for x in [params["head"]["classifier"]]
    )
    save(
        root / "joint",
        params | {"head": params["head"] | {"classifier": one}},
        head=head,
        extra={"qa": LIMITS | {"score_options_independently": False}},
    )
    save(
        root / "alone",
        params | {"head": params["head"] | {"classifier": two}},
        class_names=("wrong", "right"),
        extra={"qa": LIMITS | {"score_options_independently": True}},
    )
    return root


@pytest.fixture(scope="module")
def load(models):
    """Choosers by model and driver."""
    return functools.cache(lambda name, driver: MultipleChoice.load(models / name, driver=driver))


@pytest.mark.parametrize(
    ("name", "driver"),
    mostly_long([("joint", "packed"), ("alone", "masked")], quick=[("alone", "masked")]),
)
def test_choices_are_the_same_alone_and_in_batches_of_any_size(load, name, driver):
    chooser = load(name, driver)
    together = chooser.choose_all(QUESTIONS, batch_size=2)
    for (question, article, options), found in zip(QUESTIONS, together, strict=True):
        alone = chooser.choose(question, article, options)
        np.testing.assert_allclose(alone.probabilities, found.probabilities, atol=1e-5)
        np.testing.assert_array_equal(alone.keep_NW, found.keep_NW)
        assert found.text == options[found.label] and np.argmax(found.probabilities) == found.label
        assert sum(found.probabilities) == pytest.approx(1.0) and len(found.probabilities) == len(
            options
        )


def test_questions_of_like_numbers_of_options_share_batches_and_predictions_keep_their_order(load):
    chooser, calls = load("joint", "masked"), []

    def run(params, batch):
        calls.append(batch.token_BL.shape[0])
        return chooser.run(params, batch)

    three = [(*asked[:2], [*asked[2], "film"]) for asked in QUESTIONS]
    mixed = [asked for pair in zip(QUESTIONS, three) for asked in pair]
    found = dataclasses.replace(chooser, run=run).choose_all(mixed, batch_size=16)
    assert calls == [8, 16, 4]  # 6 options, 12 and 4, filled up
    assert [choice.options for choice in found] == [tuple(options) for *_, options in mixed]
    assert [choice.label for choice in found] == [chooser.choose(*asked).label for asked in mixed]


@pytest.mark.long
@pytest.mark.parametrize("driver", ["packed", "bucketed"])
def test_drivers_choose_as_the_reference(load, driver):
    expected, found = (
        load("joint", name).choose_all(QUESTIONS, batch_size=2) for name in ("masked", driver)
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
        assert ours.kept_words == theirs.kept_words


@pytest.mark.long
def test_words_are_the_articles_and_no_layer_ran_on_cut_ones(load):
    short, long, empty, _ = load("joint", "packed").choose_all(QUESTIONS, batch_size=2)
    assert [word.text for word in short.words] == ["a", "film", "."] and not short.is_cut
    assert short.keep_NW.shape == (4, 3) and short.keep_NW[0].any() and not short.keep_NW.all()
    for layer, texts in enumerate(short.kept_words):
        assert list(texts) == [
            word.text for word, keep in zip(short.words, short.keep_NW[layer]) if keep
        ]
    read = (
        16 - 3 - len("a a film".split())
    )  # slots without special tokens and the longest option with its question
    assert (
        long.is_cut
        and len(long.words) == 40
        and not long.keep_NW[:, read:].any()
        and long.keep_NW[0, :read].any()
    )
    assert empty.words == () and empty.keep_NW.shape == (4, 0) and not empty.is_cut


@pytest.mark.parametrize(
    ("question", "kind", "message"),
    [
        ("film", TypeError, "question 1 is 'film'; expected .question, article, options"),
        (("a", "film", "good"), TypeError, "question 1 is .*expected"),
        (("a", "film", ["good", 1]), TypeError, "question 1 is .*expected"),
        (
            ("a", "film", ["good"]),
            ValueError,
            "question 1 has the options .'good'.; expected at least 2",
        ),
    ],
)
def test_what_is_no_question_is_named(load, question, kind, message):
    with pytest.raises(kind, match=message):
        load("joint", "packed").choose_all([QUESTIONS[0], question])


def test_questions_may_be_rows_of_a_file(load):
    rows = [
        dict(zip(("question", "article", "options"), asked)) | {"id": "1"} for asked in QUESTIONS
    ]
    chooser = load("joint", "packed")
    assert [found.probabilities for found in chooser.choose_all(rows, batch_size=2)] == [
        found.probabilities for found in chooser.choose_all(QUESTIONS, batch_size=2)
    ]


def test_a_model_that_chooses_among_no_options_is_rejected(tiny_classifier):
    with pytest.raises(ValueError, match="does not choose among options; load it with Classifier"):
        MultipleChoice.load(tiny_classifier)


def test_a_model_that_judges_options_alone_is_named_as_multiple_choice(models):
    with pytest.raises(ValueError, match="finds no answers in texts; load it with MultipleChoice"):
        QuestionAnswerer.load(models / "alone")


@pytest.mark.parametrize(
    ("head", "load"),
    [(heads.choice(num_options=2), MultipleChoice.load), (heads.SPAN, QuestionAnswerer.load)],
)
def test_a_model_saved_without_the_limits_of_its_rows_is_rejected(tmp_path, head, load):
    params = tiny.make_params() | {"head": head.init(jax.random.key(0), tiny.CONFIG, 0)}
    save_model(
        tmp_path / "model",
        params,
        tiny.CONFIG,
        pruner_name="adapler",
        head=head,
        max_length=16,
        tokenizer=build_tokenizer(),
    )
    with pytest.raises(
        ValueError,
        match=r"saved without .*max_option_tokens|saved without doc_stride, .*n_best_size in extra",
    ):
        load(tmp_path / "model")


def test_a_choice_is_plain_json(load):
    chosen = load("joint", "packed").choose_all(QUESTIONS, batch_size=2)[1]
    found = json.loads(json.dumps(chosen.to_dict(), allow_nan=False))
    assert found == chosen.to_dict() and found["options"] == list(chosen.options)
    assert found["probabilities"] == list(chosen.probabilities) and found["label"] == chosen.label
    assert found["kept_words"] == [list(words) for words in chosen.kept_words]
