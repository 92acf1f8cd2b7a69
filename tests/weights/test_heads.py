"""Saved models and checkpoints with other heads than classifiers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import SPAN, candidates, choice, embedding, hotpot, regression
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from tests.tiny import assert_trees_equal

CONFIG = EncoderConfig(
    num_layers=4, num_heads=2, hidden_dim=16, ffn_dim=24, vocab_size=50, num_positions=12
)
KEY = jax.random.key(0)
HEADS = {
    "span": SPAN,
    "choice": choice(4),
    "candidates": candidates(79, protects=False),
    "hotpot": hotpot(80),
    "regression": regression("sigmoid"),
    "embedding": embedding(dense_dim=6),
}
HEAD_TENSORS = {
    "span": {"qa_outputs": (2, 16)},
    "choice": {"bert.pooler.dense": (16, 16), "classifier": (1, 16)},
    "candidates": {"candidate_score": (1, 16)},
    "hotpot": {
        "qa_outputs": (2, 16),
        "answer_type": (3, 16),
        "sentence_hidden": (16, 32),
        "sentence_support": (2, 16),
    },
    "regression": {"bert.pooler.dense": (16, 16), "classifier": (1, 16)},
    "embedding": {"sentence_dense": (6, 16)},
}


def make_params(head, seed=0):
    """Return random numbers in the shapes of a whole tree; NumPy compiles nothing."""
    shapes = {
        "encoder": jax.eval_shape(lambda: init_encoder(KEY, CONFIG)),
        "head": jax.eval_shape(lambda: head.init(KEY, CONFIG, 1)),
        "pruner": {},
    }
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


@pytest.fixture
def encoder_tensors(tensors):
    """Return the tensors of the tiny checkpoint without pooler and classifier."""
    return {
        name: x for name, x in tensors.items() if not name.startswith(("bert.pooler", "classifier"))
    }


def linear_tensors(shapes, seed=1):
    """Weights and biases under these names."""
    rng = np.random.default_rng(seed)
    found = {
        f"{name}.weight": rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    return found | {
        f"{name}.bias": rng.normal(size=shape[:1]).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("name", HEADS)
def test_a_model_with_each_head_comes_back_exactly(tmp_path, name):
    head = HEADS[name]
    params = make_params(head)
    directory = save_model(tmp_path / "model", params, CONFIG, head=head, max_length=12)
    saved = load_model(directory)
    assert saved.head is head and saved.class_names == ()
    assert_trees_equal(saved.params, params)
    written = safetensors.numpy.load_file(directory / "model.safetensors")
    expected = {f"{part}.{kind}" for part in HEAD_TENSORS[name] for kind in ("weight", "bias")}
    assert {
        tensor for tensor in written if not tensor.startswith(("bert.embeddings", "bert.encoder"))
    } == expected
    assert {part: written[f"{part}.weight"].shape for part in HEAD_TENSORS[name]} == HEAD_TENSORS[
        name
    ]


def test_config_json_names_the_class_of_transformers(tmp_path):
    found = {}
    for name, head in HEADS.items():
        directory = save_model(tmp_path / name, make_params(head), CONFIG, head=head)
        found[name] = json.loads((directory / "config.json").read_text())["architectures"]
    assert found == {
        "span": ["BertForQuestionAnswering"],
        "choice": ["BertForMultipleChoice"],
        "candidates": ["BertModel"],
        "hotpot": ["BertModel"],
        "regression": ["BertForSequenceClassification"],
        "embedding": ["BertModel"],
    }


def test_a_damaged_head_is_named(tmp_path):
    directory = save_model(tmp_path / "model", make_params(hotpot(3)), CONFIG, head=hotpot(3))
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    del tensors["answer_type.bias"]
    safetensors.numpy.save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"answer_type.bias: missing, expected \(3,\)"):
        load_model(directory)


def test_a_checkpoint_for_question_answering_is_read_with_its_head(
    write_checkpoint, encoder_tensors
):
    own = linear_tensors(HEAD_TENSORS["span"])
    loaded = load_pretrained(write_checkpoint(encoder_tensors | own), KEY, head=SPAN)
    np.testing.assert_array_equal(
        loaded.params["head"]["span"]["kernel"], own["qa_outputs.weight"].T
    )
    np.testing.assert_array_equal(loaded.params["head"]["span"]["bias"], own["qa_outputs.bias"])
    assert loaded.notes == () and loaded.params["head"].keys() == {"span"}
    again = load_pretrained(
        write_checkpoint(encoder_tensors | own), KEY, head=SPAN, reinit_head=True
    )
    assert again.notes == ("started afresh, qa_outputs: config.reinit_head",)
    assert not np.any(again.params["head"]["span"]["bias"])


@pytest.mark.parametrize("name", ["span", "candidates", "hotpot"])
def test_a_checkpoint_without_the_head_gives_the_encoder_and_says_so(
    write_checkpoint, tensors, name
):
    loaded = load_pretrained(write_checkpoint(tensors), KEY, head=HEADS[name], num_classes=7)
    assert loaded.notes == (
        f"started afresh, {', '.join(HEAD_TENSORS[name])}: the checkpoint has none",
    )
    expected = HEADS[name].init(KEY, CONFIG, 1)
    assert_trees_equal(loaded.params["head"], expected)
    table = loaded.params["encoder"]["embeddings"]["token"]
    np.testing.assert_array_equal(table, tensors["bert.embeddings.word_embeddings.weight"])
    assert loaded.class_names is None


def test_a_head_takes_the_parts_that_the_checkpoint_has(write_checkpoint, encoder_tensors):
    own = linear_tensors(HEAD_TENSORS["span"])
    loaded = load_pretrained(write_checkpoint(encoder_tensors | own), KEY, head=hotpot(3))
    np.testing.assert_array_equal(
        loaded.params["head"]["span"]["kernel"], own["qa_outputs.weight"].T
    )
    assert loaded.notes == (
        "started afresh, answer_type, sentence_hidden, sentence_support: the checkpoint has none",
    )


def test_a_choice_keeps_the_pooler_and_renews_a_classifier_of_other_size(write_checkpoint, tensors):
    loaded = load_pretrained(write_checkpoint(tensors), KEY, head=choice(4))
    np.testing.assert_array_equal(
        loaded.params["head"]["pooler"]["kernel"], tensors["bert.pooler.dense.weight"].T
    )
    assert loaded.params["head"]["classifier"]["kernel"].shape == (16, 1)
    assert loaded.notes == (
        "started afresh, classifier: the checkpoint's has 3 classes, 1 are needed",
    )


def test_heads_of_other_tasks_are_ignored_and_noted(write_checkpoint, tensors):
    others = linear_tensors(HEAD_TENSORS["hotpot"] | HEAD_TENSORS["candidates"])
    loaded = load_pretrained(write_checkpoint(tensors | others), KEY)
    (note,) = loaded.notes
    assert note.startswith(
        "ignored: answer_type.* (2 tensors), candidate_score.* (2 tensors), qa_outputs.*"
    )
    assert loaded.params["head"].keys() == {"pooler", "classifier"}
