"""A new encoder is one file and one line: no other file changes, and all drivers agree on it."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import heads, model_flops
from adapler_jax.encoders import ENCODERS, base, encoder_of
from adapler_jax.encoders.bert import BERT
from adapler_jax.evaluation.attribution import attention_scores, layer_saliency
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import Pruner, adapler, keep_all, powerbert, trbert
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    CLS_ATTENTION,
    COLUMN_ATTENTION,
    POSITION,
    STATE,
    Selection,
    Site,
)
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.encoders.toy import TOY
from tests.marks import mostly_long
from tests.weights.hostile import refused

CONFIG = dataclasses.replace(tiny.CONFIG, family="toy")
LENGTHS = (12, 7, 3, 1, 9, 12, 2, 5)
BUCKETS = (4, 8, 12)


def threshold_pruner(name, point, needs, number_of) -> Pruner:
    """Keep tokens whose number from `needs` is at least the mean of the text."""

    def hard(params, layer, site):
        number_BL = jnp.where(site.remaining_BL, site.token_logit_BL, 0.0)
        count_B1 = jnp.sum(site.remaining_BL, axis=-1, keepdims=True, dtype=jnp.float32)
        count_B1 = jnp.maximum(1.0, count_B1)
        mean_B1 = jnp.sum(number_BL, axis=-1, keepdims=True) / count_B1
        keep_BL = site.remaining_BL & (number_BL >= 0.9 * mean_B1 - 1e-4)
        return Selection(number_BL, keep_BL.at[:, 0].set(site.remaining_BL[:, 0]))

    return keep_all()._replace(
        name=name,
        sites=tuple(Site(layer, point) for layer in range(CONFIG.num_layers)),
        score=lambda params, features: number_of(features),
        hard=hard,
        needs=frozenset(needs),
    )


PRUNERS = {
    "keep_all": keep_all(),
    "adapler": adapler(CONFIG, predictor_dim=8),
    "trbert": trbert(CONFIG, selector_dim=8),
    "powerbert": powerbert(CONFIG),
    "state and position before the attention": threshold_pruner(
        "position",
        BEFORE_ATTENTION,
        {STATE, POSITION},
        lambda features: features.state_XD[..., 0] + 0.1 * features.position_X.astype(jnp.float32),
    ),
    "state, position and attention inside the layer": threshold_pruner(
        "all",
        BEFORE_FEED_FORWARD,
        {STATE, POSITION, COLUMN_ATTENTION, CLS_ATTENTION},
        lambda features: (
            features.column_attention_X
            + features.cls_attention_X
            + 0.1 * features.state_XD[..., 0]
            + 0.01 * features.position_X.astype(jnp.float32)
        ),
    ),
}


OTHERS = tuple(PRUNERS)[-2:]  # that no paper has


@pytest.fixture(autouse=True)
def _plugged_in(monkeypatch):
    """The one line of a new family."""
    monkeypatch.setitem(ENCODERS, "toy", TOY)


@functools.cache
def params_of(name):
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(5), 3)
    pruner_params = PRUNERS[name].init(pruner_key, CONFIG)
    if name == "adapler":
        pruner_params["threshold_N"] = jnp.full((CONFIG.num_layers,), 0.8)
    if name == "powerbert":
        pruner_params["retention_N"] = jnp.array([9.0, 6.0, 6.0, 2.0])
    if name == "trbert":
        pruner_params = jax.tree.map(lambda leaf: 5.0 * leaf, pruner_params)
    return {
        "encoder": encoder_of(CONFIG).init(encoder_key, CONFIG),
        "head": heads.init_classifier(head_key, CONFIG, tiny.NUM_CLASSES),
        "pruner": pruner_params,
    }


def run(name, driver, **options):
    params = params_of(name)
    if driver != "masked":
        params = prepare_inference_params(params, CONFIG)
    if driver == "packed":
        options |= {"tiles": (4, 8), "block_tokens": 20}
    engine = make_engine(CONFIG, PRUNERS[name], buckets=BUCKETS, driver=driver, **options)
    return engine(params, tiny.make_batch(LENGTHS))


@pytest.mark.parametrize("name", mostly_long(["adapler", *OTHERS], quick=["adapler"]))
def test_all_drivers_agree_on_a_new_encoder(name):
    expected_BC, expected = run(name, "masked", return_exit_hidden=True)
    for driver in ("bucketed", "packed"):
        found_BC, found = run(name, driver, return_exit_hidden=True)
        np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
        np.testing.assert_allclose(
            found.exit_hidden_BLD, expected.exit_hidden_BLD, atol=2e-5, rtol=0
        )
        if PRUNERS[name].sites:
            np.testing.assert_array_equal(found.count_NB, expected.count_NB)
            np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
    if PRUNERS[name].sites:
        assert np.all(np.sum(expected.count_NB, axis=1)[-1] < sum(LENGTHS))


@pytest.mark.long
@pytest.mark.parametrize(
    ("driver", "name"),
    [("packed", "adapler"), ("bucketed", "powerbert"), ("packed", "keep_all")],
)
def test_the_last_layer_for_cls_alone_has_its_positions_and_biases(driver, name):
    expected_BC, expected = run(name, "masked")
    found_BC, found = run(name, driver)
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    assert found.exit_hidden_BLD is None
    if PRUNERS[name].sites:
        np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
        np.testing.assert_allclose(found.score_NBL, expected.score_NBL, atol=1e-5, rtol=0)


def test_the_bias_of_the_first_queries_is_a_part_of_that_of_all():
    position_BL = jnp.array([[0, 3, 4, 9], [0, 1, 2, 11]])
    for layer in range(CONFIG.num_layers):
        bias_B1LL = base.layer_bias(TOY, {}, CONFIG, jnp.int32(layer), position_BL)
        first_B11L = base.layer_bias(TOY, {}, CONFIG, jnp.int32(layer), position_BL, num_queries=1)
        np.testing.assert_array_equal(first_B11L, bias_B1LL[:, :, :1])
    assert base.layer_bias(BERT, {}, tiny.CONFIG, jnp.int32(0), position_BL, num_queries=1) is None


def test_without_a_pruner_every_driver_is_the_plain_encoder():
    batch, params = tiny.make_batch(LENGTHS), params_of("keep_all")
    dense_BC, _ = dense.forward(params, CONFIG, batch)
    masked_BC, _ = run("keep_all", "masked")
    soft_BC, _ = full_width.forward(params, CONFIG, keep_all(), batch, slope=jnp.float32(1.0))
    for found_BC in (masked_BC, soft_BC):
        np.testing.assert_allclose(found_BC, dense_BC, atol=1e-5, rtol=0)


@pytest.mark.long
def test_positions_are_those_before_anything_was_dropped():
    """With positions counted again after a drop, other rotations would give other logits."""
    dropped = PRUNERS["state and position before the attention"]
    assert TOY.needs_positions and POSITION in dropped.needs
    encoder = encoder_of(CONFIG)
    layer = jax.tree.map(lambda leaf: leaf[0], params_of("keep_all")["encoder"]["layers"])
    hidden_BLD = jax.random.normal(jax.random.key(0), (1, 3, CONFIG.hidden_dim))

    def attended(positions):
        found, _ = base.attend(
            encoder,
            layer,
            CONFIG,
            hidden_BLD,
            jnp.zeros((1, 3)),
            index=jnp.int32(0),
            position_BL=jnp.array([positions]),
        )
        return found

    assert np.max(np.abs(attended([0, 1, 2]) - attended([0, 4, 9]))) > 1e-3
    # Rotary angles depend on differences alone.
    np.testing.assert_allclose(attended([0, 4, 9]), attended([3, 7, 12]), atol=1e-5)


def test_a_local_layer_ignores_tokens_outside_its_window():
    bias_B1LS = base.layer_bias(TOY, {}, CONFIG, jnp.int32(1), jnp.array([[0, 2, 9]]))
    assert (np.asarray(bias_B1LS[0, 0]) == 0).tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
    ]
    global_B1LS = base.layer_bias(TOY, {}, CONFIG, jnp.int32(0), jnp.array([[0, 9]]))
    assert not np.any(global_B1LS)


@pytest.mark.long
def test_training_explanations_and_counts_serve_a_new_encoder():
    params, batch = params_of("adapler"), jax.tree.map(jnp.asarray, tiny.make_batch(LENGTHS))

    def loss(params):
        logits_BC, trace = full_width.forward(
            params,
            CONFIG,
            PRUNERS["adapler"],
            batch,
            slope=jnp.float32(10.0),
            key=jax.random.key(0),
        )
        return jnp.mean(logits_BC**2) + jnp.mean(trace.count_NB)

    gradient = jax.jit(jax.grad(loss))(params)
    tiny.assert_all_finite(gradient)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["encoder"]["layers"]))
    scores = attention_scores(params, CONFIG, batch)
    np.testing.assert_allclose(jnp.sum(scores.cls_NBL, axis=-1), 1.0, atol=1e-5)
    saliency_NBL, _ = layer_saliency(params, CONFIG, batch)
    assert np.all(np.any(saliency_NBL > 0, axis=-1))
    dense_B = model_flops.dense_flops(CONFIG, [12, 5], head=7)
    kept_NB = np.full((CONFIG.num_layers, 2), 2)
    pruned_B = model_flops.pruned_flops(
        CONFIG, PRUNERS["adapler"], params, [12, 5], kept_NB, head=7
    )
    assert np.all(pruned_B < dense_B)


def test_an_unknown_family_is_named():
    names = ", ".join(ENCODERS)
    with pytest.raises(ValueError, match=f"family 'none'; expected one of {names}"):
        encoder_of(dataclasses.replace(CONFIG, family="none"))


def save(name, directory):
    """Save a model of the new encoder with the pruner `name`; return its folder."""
    return save_model(
        directory,
        params_of(name),
        CONFIG,
        pruner_name=name,
        pruner_options=dict(PRUNERS[name].factory_kwargs),
        class_names=("a", "b", "c"),
        max_length=16,
        tokenizer=build_tokenizer(),
    )


@pytest.mark.parametrize("name", ["keep_all", "adapler", "trbert", "powerbert"])
def test_a_new_encoder_is_saved_and_loaded_bit_for_bit(name, tmp_path):
    saved = load_model(save(name, tmp_path / "model"))
    tiny.assert_trees_equal(saved.params, params_of(name))
    assert (saved.config, saved.pruner_name) == (CONFIG, name)
    again = load_pretrained(saved.directory, jax.random.key(0), num_positions=20)
    expected = {part: params_of(name)[part] for part in ("encoder", "head")}
    tiny.assert_trees_equal(again.params, expected)
    assert again.config == dataclasses.replace(CONFIG, num_positions=20)


@pytest.mark.long
def test_the_classifier_of_a_saved_new_encoder_gives_its_answers(tmp_path):
    text = "a good film . not bad"
    token_ids = build_tokenizer().backend_tokenizer.encode(text).ids
    batch = tiny.make_batch((len(token_ids),), num_slots=len(token_ids))
    batch = batch.replace(
        token_BL=np.int32([token_ids]), segment_BL=np.zeros((1, len(token_ids)), np.int32)
    )
    logits_BC, _ = make_engine(CONFIG, PRUNERS["adapler"], driver="masked")(
        params_of("adapler"), batch
    )
    found = Classifier.load(save("adapler", tmp_path / "model")).predict([text])[0]
    expected_C = jax.nn.softmax(logits_BC[0])
    np.testing.assert_allclose(list(found.probabilities.values()), expected_C, atol=1e-5)


def test_the_files_of_a_new_encoder_name_its_family_and_no_class_of_transformers(tmp_path):
    directory = save("keep_all", tmp_path / "model")
    raw = json.loads((directory / "config.json").read_text())
    assert (raw["model_type"], raw["adapler_jax"]["family"]) == ("toy", "toy")
    assert "architectures" not in raw
    card = (directory / "README.md").read_text()
    assert "No class of transformers computes this encoder" in card and "Auto" not in card


def test_all_mismatches_of_a_new_encoder_come_in_one_error(tmp_path):
    params = params_of("keep_all")
    layers = params["encoder"]["layers"] | {"qkv": {"kernel": jnp.zeros((4, 16, 47))}}
    encoder = params["encoder"] | {"layers": layers, "final_norm": {"scale": jnp.ones(15)}}
    with pytest.raises(ValueError, match="2 mismatches") as caught:
        save_model(tmp_path / "model", params | {"encoder": encoder}, CONFIG)
    assert "layers/qkv/kernel: expected (4, 16, 48), found (4, 16, 47)" in str(caught.value)


@pytest.mark.parametrize("family", ["bert", "local", "distilbert"])
def test_the_family_of_an_encoder_with_the_tensors_of_bert_is_kept(family, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, family, BERT)
    config = dataclasses.replace(
        tiny.CONFIG, family=family, num_segments=1, pooler_activation="relu"
    )
    config = dataclasses.replace(config, classifier_dropout_prob=0.1)
    params = tiny.make_params(keep_all())
    table_1D = params["encoder"]["embeddings"]["segment"][:1]
    params["encoder"]["embeddings"]["segment"] = table_1D
    saved = load_model(save_model(tmp_path / "model", params, config))
    assert saved.config == config
    tiny.assert_trees_equal(saved.params, params)
    assert (tmp_path / "model" / "adapler_jax.safetensors").exists() == (family == "bert")


@pytest.mark.parametrize("family", ["gone", None, ["toy"], "x" * 5000])
def test_a_saved_model_of_an_unknown_family_ends_in_one_line(family, tmp_path):
    directory = save("keep_all", tmp_path / "model")
    raw = json.loads((directory / "config.json").read_text())
    raw["adapler_jax"]["family"] = family
    (directory / "config.json").write_text(json.dumps(raw))
    for load in (load_model, functools.partial(load_pretrained, key=jax.random.key(0))):
        refused(
            load,
            directory,
            match=f"unknown encoder family .*; expected one of {', '.join(ENCODERS)}$",
        )


def test_a_model_of_an_unknown_family_is_not_saved(tmp_path):
    config = dataclasses.replace(CONFIG, family="none")
    with pytest.raises(ValueError, match="unknown encoder family 'none'; expected one of bert"):
        save_model(tmp_path / "model", params_of("keep_all"), config)
    assert not any(tmp_path.iterdir())
