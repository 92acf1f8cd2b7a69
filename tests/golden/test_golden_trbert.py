"""Parity with the TR-BERT authors' own program, in float32.

Weights and inputs follow a formula of the file's makers; nothing of the program is needed.
"""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.heads import CLASSIFICATION, HEADS, SPAN
from adapler_jax.inference.drivers import bucketed, masked, packed
from adapler_jax.pruning import trbert
from adapler_jax.pruning.trbert import action_losses, selected_fraction
from adapler_jax.training.policy import (
    PolicyConfig,
    combine,
    importance_scores,
    init_objective,
)
from adapler_jax.types import Batch, EncoderConfig, SamplingNoise
from adapler_jax.weights.checkpoint_formats import SEGMENTS, distilbert_name
from adapler_jax.weights.rules import axis_sizes, model_rules
from adapler_jax.weights.tree import to_tree

TOLERANCE = 2e-6
CONFIG = EncoderConfig(
    num_layers=6,
    num_heads=2,
    hidden_dim=16,
    ffn_dim=32,
    vocab_size=50,
    num_positions=40,
    hidden_dropout_prob=0.0,
    attention_dropout_prob=0.0,
)
NUM_CLASSES = 3


def our_name(theirs: str) -> str:
    """The name of the rule table for a tensor of their BERT or DistilBERT."""
    ours = distilbert_name(theirs)
    for number in (0, 1):
        for part, our_part in (("linear_1", "hidden"), ("linear_2", "score")):
            for prefix in ("bert.encoder", "distilbert.transformer"):
                ours = ours.replace(
                    f"{prefix}.{part}.{number}", f"token_selector.{number}.{our_part}"
                )
    return ours


def formula(names: list[str], config: EncoderConfig, head_name="classification") -> dict:
    """Return the tree of all tensors.

    Their numbers follow from their index in the sorted list and their shape.
    """
    rules = model_rules("trbert", HEADS[head_name]())
    sizes = axis_sizes(config, num_classes=NUM_CLASSES, predictor_dim=32, num_sites=2)
    shapes = {name: rule.tensor_shape(sizes) for rule in rules for name in rule.tensor_names(sizes)}
    tensors = {}
    for place, theirs in enumerate(names, start=1):
        ours = our_name(theirs)
        if head_name == "span" and ours.startswith("bert.pooler."):
            continue  # it is in their list, but unused
        shape = shapes.pop(ours)
        base = np.sin(1.7 * np.arange(1, np.prod(shape) + 1) + 0.9 * place).reshape(shape)
        if ours.endswith("LayerNorm.weight"):
            tensors[ours] = 1.0 + 0.1 * base
        else:
            scale = 0.1 if theirs.endswith(".bias") else 1.0 if ".linear_" in theirs else 0.4
            tensors[ours] = scale * base
    assert all(name == SEGMENTS or name.startswith("token_selector.") for name in shapes)
    tensors |= {name: np.zeros(shape) for name, shape in shapes.items()}
    return to_tree(tensors, rules, sizes)


def batch_of(ids, mask=None, labels=None, guide=None) -> Batch:
    token_BL = np.array(ids, np.int32)
    valid_BL = np.ones(token_BL.shape, bool) if mask is None else np.array(mask) > 0
    return Batch(
        token_BL=token_BL,
        segment_BL=np.zeros(token_BL.shape, np.int32),
        valid_BL=valid_BL,
        label_B=np.zeros(len(ids), np.int32) if labels is None else np.array(labels, np.int32),
        example_id_B=np.arange(len(ids), dtype=np.int32),
        importance_BJL=None if guide is None else np.array(guide, np.float32),
    )


@pytest.fixture(scope="module")
def golden(golden_file):
    return json.loads(golden_file("trbert.json").read_text())


@pytest.fixture(scope="module")
def params(golden):
    return formula(golden["cls"]["param_names_sorted"], CONFIG)


def test_one_text_at_a_time_matches(golden, params):
    for case in golden["cls"]["eval_batch1"]:
        batch = batch_of([case["ids"]])
        logits_BC, trace = masked.forward(params, CONFIG, trbert(CONFIG), batch)
        np.testing.assert_allclose(logits_BC[0], case["logits"], rtol=0, atol=TOLERANCE)
        kept = np.asarray(trace.count_NB)[[1, 3], 0]
        expected = np.array(case["kept_fraction"]) * len(case["ids"])
        np.testing.assert_array_equal(kept[: len(expected)], expected.round())


@pytest.mark.long
def test_answers_of_questions_match(golden):
    """Of every token the state where it stopped decides; at batch one, where their program counts
    none twice."""
    names = [
        name.replace("classifier.", "qa_outputs.") for name in golden["cls"]["param_names_sorted"]
    ]
    params = formula(names, CONFIG, "span")
    for place, case in enumerate(golden["qa"]["eval_batch1"]):
        batch = batch_of([case["ids"]]).replace(segment_BL=np.array([case["token_type"]], np.int32))
        batch = jax.device_put(batch)
        for forward in (masked.forward, bucketed.forward, packed.forward)[: 3 if place == 0 else 1]:
            logits_BL2, trace = forward(params, CONFIG, trbert(CONFIG), batch, head=SPAN)
            np.testing.assert_allclose(
                logits_BL2[0, :, 0], case["start"], rtol=1e-6, atol=TOLERANCE
            )
            np.testing.assert_allclose(logits_BL2[0, :, 1], case["end"], rtol=1e-6, atol=TOLERANCE)
            first, second = (set(np.flatnonzero(trace.survival_NBL[layer, 0])) for layer in (1, 3))
            assert first == set(case["kept_index_step1"])
            assert second == {
                case["kept_index_step1"][place] for place in case["kept_index_step2_relative"]
            }


def test_a_distilled_encoder_matches(golden):
    config = dataclasses.replace(CONFIG, num_segments=1, pooler_activation="relu")
    params = formula(golden["distil_cls"]["param_names_sorted"], config)
    for case in golden["distil_cls"]["eval_batch1"]:
        logits_BC, trace = masked.forward(params, config, trbert(config), batch_of([case["ids"]]))
        np.testing.assert_allclose(logits_BC[0], case["logits"], rtol=0, atol=TOLERANCE)
        expected = np.array(case["kept_fraction"]) * len(case["ids"])
        np.testing.assert_array_equal(
            np.asarray(trace.count_NB)[[1, 3], 0][: len(expected)], expected.round()
        )


@pytest.mark.parametrize("by_batch", [False, True])
def test_batches_match_by_either_rule(golden, params, by_batch):
    """Ours gives every text the answer that it has alone, as the program does at batch one; its
    rule for batches is an
    option."""
    shared = golden["cls"]["eval_batch4_author_semantics"]
    expected = shared if by_batch else golden["cls"]["eval_same_rows_batch1"]
    batch = batch_of(shared["ids"], shared["mask"])
    logits_BC, trace = masked.forward(params, CONFIG, trbert(CONFIG, by_batch=by_batch), batch)
    np.testing.assert_allclose(logits_BC, expected["logits"], rtol=0, atol=TOLERANCE)


def uniform(num_rows: int, num_slots: int):
    """Return the numbers that replace the program's first random numbers."""
    row, place = np.arange(1, num_rows + 1)[:, None], np.arange(1, num_slots + 1)[None]
    return (0.5 + 0.5 * np.sin(2.3 * row + 0.7 * place)).astype(np.float32)


PRUNER = trbert(CONFIG)


def run_actions(params, rows: Batch, action_NBL, guide_NBL, imitate_B):
    """Run a pass with given actions at the two sites.

    The random numbers are 0 and 1. Imitating rows choose their own actions at the first site.
    """
    noise = SamplingNoise(
        1.0 - jnp.asarray(action_NBL), jnp.asarray(guide_NBL), jnp.asarray(imitate_B)
    )
    return full_width.forward(params, CONFIG, PRUNER, rows, slope=jnp.float32(1.0), noise=noise)


def numbers_of(logits_BC, trace, rows: Batch):
    """Return the terms of the loss."""
    return {
        "task": CLASSIFICATION.loss_fn(logits_BC, rows, 0.0),
        "share": selected_fraction(
            trace, PRUNER.sites, rows.valid_BL, normalize_by_padded_length=True
        ),
        "nll": action_losses(trace, PRUNER.sites, rows.valid_BL),
    }


def take(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@pytest.mark.long
@pytest.mark.parametrize("case", ["rl_step_no_imitation", "rl_step_imitation"])
def test_reinforcement_step_matches(golden, params, case):
    """The program gives the random numbers of its second selection to the columns of a sort that
    leaves their order open. Its actions there are therefore found: of all that keep as many tokens
    as it reports, those that give its losses; in every row there is one.
    """
    expected = golden["cls"][case]
    batch = batch_of(expected["ids"], expected["mask"], expected["labels"], expected["guide"])
    rows = jax.tree.map(lambda leaf: np.concatenate([leaf] * expected["K"]), batch)
    num_rows, num_slots = rows.token_BL.shape
    imitate_B = np.arange(num_rows) < (len(batch.token_BL) if case == "rl_step_imitation" else 0)
    guide_NBL = np.zeros((CONFIG.num_layers, num_rows, num_slots), np.float32)
    guide_NBL[1], guide_NBL[3] = rows.importance_BJL[:, 0], rows.importance_BJL[:, 1]
    first_BL = np.array(expected["actions_call0"], np.float32)

    # The first selection, by the program's random numbers.
    noise = SamplingNoise(
        jnp.asarray(np.broadcast_to(uniform(num_rows, num_slots), guide_NBL.shape)),
        jnp.asarray(guide_NBL),
        jnp.asarray(imitate_B),
    )
    _, trace = full_width.forward(params, CONFIG, PRUNER, rows, slope=jnp.float32(1.0), noise=noise)
    np.testing.assert_array_equal(trace.survival_NBL[1], first_BL)
    np.testing.assert_allclose(
        trace.count_NB[1] / num_slots, expected["kept_fraction"][0], rtol=0, atol=TOLERANCE
    )

    # The second, by what it led to. Imitation is switched off: its actions are among the
    # candidates too.
    row_K, action_KL = [], []
    for row in range(num_rows):
        kept = [slot for slot in np.flatnonzero(first_BL[row]) if slot]
        for others in itertools.combinations(
            kept, round(expected["kept_fraction"][1][row] * num_slots) - 1
        ):
            row_K.append(row)
            action_KL.append(np.isin(np.arange(num_slots), (0, *others)).astype(np.float32))
    action_NKL = np.zeros((CONFIG.num_layers, len(row_K), num_slots), np.float32)
    action_NKL[1], action_NKL[3] = first_BL[row_K], action_KL
    never = np.zeros(len(row_K), bool)
    found = run_actions(params, take(rows, np.array(row_K)), action_NKL, guide_NBL[:, row_K], never)
    numbers = numbers_of(*found, take(rows, np.array(row_K)))
    fits_K = np.abs(numbers["task"] - np.array(expected["ce"])[row_K]) < TOLERANCE
    fits_K &= np.abs(numbers["nll"] - np.array(expected["action_nll"])[row_K]) < TOLERANCE
    assert np.array(row_K)[fits_K].tolist() == list(range(num_rows))

    def loss(selectors):
        found = run_actions(
            params | {"pruner": selectors},
            rows,
            action_NKL[:, fits_K],
            guide_NBL,
            np.zeros(num_rows, bool),
        )
        shape = expected["K"], len(batch.token_BL)
        found_KB = jax.tree.map(lambda x_B: x_B.reshape(shape), numbers_of(*found, rows))
        return combine(found_KB, batch, PolicyConfig(length_coef=expected["alpha"]))[0]

    value, grads = jax.value_and_grad(loss)(params["pruner"])
    np.testing.assert_allclose(value, expected["selector_loss"], rtol=0, atol=TOLERANCE)
    for theirs, ours in (("linear_1", "hidden"), ("linear_2", "score")):
        for site, (leaf, tensor) in itertools.product(
            (0, 1), (("kernel", "weight"), ("bias", "bias"))
        ):
            norm = np.linalg.norm(grads[ours][leaf][site])
            assert norm == pytest.approx(
                expected["grad_norms"][f"bert.encoder.{theirs}.{site}.{tensor}"], rel=1e-3
            )


def deep_names(names: list[str], num_layers: int) -> list[str]:
    """The sorted names of a model of more layers, without selectors."""
    others = [name for name in names if ".layer." not in name and ".linear_" not in name]
    one = [name for name in names if ".layer.0." in name]
    return sorted(
        others
        + [name.replace(".0.", f".{layer}.", 1) for layer in range(num_layers) for name in one]
    )


def test_importance_scores_match(golden):
    expected = golden["residual_score"]
    config = dataclasses.replace(CONFIG, num_layers=12)
    params = formula(deep_names(golden["cls"]["param_names_sorted"], 12), config)
    batch = batch_of(expected["ids"], expected["mask"], expected["labels"])
    scores_BJL, logits_BC = importance_scores(
        params, config, batch, layers=(1, 6), dtype=jnp.float32
    )
    loss = np.mean(CLASSIFICATION.loss_fn(logits_BC, batch, 0.0))
    np.testing.assert_allclose(loss, expected["loss"], rtol=0, atol=TOLERANCE)
    found = np.where(batch.valid_BL[:, None], scores_BJL / len(batch.label_B), expected["score"])
    np.testing.assert_allclose(found, expected["score"], rtol=1e-4, atol=TOLERANCE)


def test_the_loss_of_initialised_selectors_matches(golden, params):
    expected = golden["init_loss"]
    batch = batch_of(expected["ids"], expected["mask"])
    loss, _ = init_objective(
        params, CONFIG, PRUNER, batch, jnp.float32(expected["rank"]), dtype=jnp.float32
    )
    length_B = np.asarray(batch.valid_BL).sum(-1)
    np.testing.assert_allclose(
        loss * np.mean(1.0 / length_B), expected["loss"], rtol=0, atol=TOLERANCE
    )
