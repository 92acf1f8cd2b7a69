import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.inference.drivers import masked
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.powerbert import (
    check_retention,
    mass_term,
    powerbert,
    powerbert_search,
    ranks,
    retain,
    retention,
    soft_extract,
)
from adapler_jax.types import MASK_BIAS, SiteInput
from tests import plain_bert as encoder
from tests.tiny import CONFIG, LENGTHS, NUM_SLOTS, assert_trees_equal, make_batch, make_params

SEARCH = powerbert_search(CONFIG, max_length=NUM_SLOTS)
HARD = powerbert(CONFIG)
LIVE = jnp.array([[True, True, True, True, False], [True, True, False, False, False]])
SIGNIFICANCE = jnp.array([[0.1, 0.5, 0.5, 0.7, 0.0], [0.2, 0.3, 0.0, 0.0, 0.0]])


def view(significance_BL=SIGNIFICANCE, valid_BL=LIVE):
    return SiteInput(
        token_logit_BL=significance_BL,
        remaining_BL=valid_BL,
        survival_BL=valid_BL.astype(jnp.float32),
    )


def params_with(pruner, **leaves):
    params = make_params(pruner)
    return params | {"pruner": params["pruner"] | leaves}


def retaining(*counts):
    return params_with(HARD, retention_N=jnp.array(counts, jnp.float32))


# Significance


def test_attention_received_by_hand():
    """Two heads, three tokens, the last one padding: nobody attends to it, and it does not vote."""
    attention_HLS = jnp.array(
        [
            [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.9, 0.1, 0.0]],
            [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.3, 0.7, 0.0]],
        ]
    )
    total_HL1 = jnp.array([[[2.0], [1.0], [4.0]], [[1.0], [3.0], [1.0]]])
    exp_logits_BHLS, normalizer_BHL1 = (attention_HLS * total_HL1)[None], total_HL1[None]
    voters = jnp.array([[True, True, False]])
    found = encoder.attention_significance(exp_logits_BHLS, normalizer_BHL1, voters)
    # Token 0 from token 1: (0.25 + 0.5) / 2. Token 1 from token 0: (0.5 + 0) / 2.
    np.testing.assert_allclose(found, [[0.375, 0.25, 0.0]], rtol=1e-6)
    with_padding = encoder.attention_significance(
        exp_logits_BHLS, normalizer_BHL1, jnp.ones((1, 3), bool)
    )
    np.testing.assert_allclose(with_padding, [[0.375 + 0.6, 0.25 + 0.4, 0.0]], rtol=1e-6)


@pytest.mark.long
def test_attention_that_is_counted_gives_the_same_states():
    batch = make_batch()
    layer = jax.tree.map(lambda leaf: leaf[0], make_params(keep_all())["encoder"]["layers"])
    hidden_BLD = jax.random.normal(jax.random.key(0), (*batch.valid_BL.shape, CONFIG.hidden_dim))
    bias_BL = encoder.attention_bias(batch.valid_BL)
    states, received_BL = encoder.attention_with_significance(
        layer, CONFIG, hidden_BLD, bias_BL, query_mask_BL=batch.valid_BL
    )
    np.testing.assert_array_equal(states, encoder.attend(layer, CONFIG, hidden_BLD, bias_BL))
    assert not np.any(received_BL[~batch.valid_BL]) and np.all(
        received_BL[:3][batch.valid_BL[:3]] > 0
    )
    assert received_BL[3, 0] == 0.0  # a text of [CLS] alone gets none from others


# Ranks and the hard rule


def test_ranks_by_hand():
    found = ranks(SIGNIFICANCE, LIVE, protects_cls=True)
    assert found.tolist() == [[0, 2, 3, 1, 4], [0, 1, 2, 3, 4]]
    found = ranks(SIGNIFICANCE, LIVE, protects_cls=False)
    assert found.tolist() == [[3, 1, 2, 0, 4], [1, 0, 2, 3, 4]]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1.0, [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]),
        (2.0, [[1, 0, 0, 1, 0], [1, 1, 0, 0, 0]]),
        (3.0, [[1, 1, 0, 1, 0], [1, 1, 0, 0, 0]]),
        (9.0, [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]),
    ],
)
def test_cls_and_the_most_significant_are_retained(count, expected):
    assert retain(jnp.float32(count), view()).keep_BL.astype(int).tolist() == expected


def test_training_drops_what_inference_drops():
    softened = HARD.soft({"retention_N": jnp.float32(2.0)}, 0, view(), jnp.float32(1.0))
    assert softened.survival_BL.tolist() == [[1, 0, 0, 1, 0], [1, 1, 0, 0, 0]]
    assert softened.bias_BL[0].tolist() == [0, MASK_BIAS, MASK_BIAS, 0, MASK_BIAS]
    assert softened.scale_BL is None
    params, batch = retaining(7, 4, 2, 2), make_batch()
    soft, trace = full_width.forward(params, CONFIG, HARD, batch, slope=jnp.float32(1.0))
    hard, hard_trace = masked.forward(params, CONFIG, HARD, batch)
    np.testing.assert_array_equal(soft, hard)
    np.testing.assert_array_equal(trace.count_NB, hard_trace.count_NB)


def test_counts_are_the_same_for_all_texts_that_have_as_many_tokens():
    _, trace = masked.forward(retaining(7, 4, 2, 1), CONFIG, HARD, make_batch())
    np.testing.assert_array_equal(
        trace.count_NB, np.minimum(LENGTHS, np.array([[7], [4], [2], [2]]))
    )
    assert np.all(trace.survival_NBL[:, :, 0] == 1.0)


def test_a_layer_that_retains_every_slot_is_plain_bert():
    batch = make_batch()
    found, _ = masked.forward(retaining(*[NUM_SLOTS] * 4), CONFIG, HARD, batch)
    expected, _ = masked.forward(make_params(keep_all()), CONFIG, keep_all(), batch)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_padding_and_batch_mates_never_matter():
    params = retaining(7, 4, 2, 1)
    run = functools.partial(masked.forward, params, CONFIG, HARD)
    expected, trace = run(make_batch())
    wide, _ = run(make_batch(num_slots=CONFIG.num_positions, padding=7))
    np.testing.assert_allclose(wide, expected, atol=1e-5)
    alone, _ = run(jax.tree.map(lambda leaf: leaf[1:2], make_batch()))
    np.testing.assert_allclose(alone[0], expected[1], atol=1e-5)


def test_padding_as_tokens_makes_it_matter():
    """The authors' program: a row's significance depends on how far it is padded."""
    pruner = powerbert(CONFIG, counts_padding=True)
    run = functools.partial(masked.forward, retaining(7, 4, 2, 1), CONFIG, pruner)
    _, trace = run(make_batch())
    _, wide = run(make_batch(num_slots=CONFIG.num_positions))
    moved_BL = np.abs(wide.score_NBL[0][:, :NUM_SLOTS] - trace.score_NBL[0]) > 1e-3
    assert np.all(np.any(moved_BL[1:], axis=1))
    np.testing.assert_array_equal(trace.count_NB, np.broadcast_to([[7], [4], [2], [2]], (4, 4)))


# Search


def test_states_are_scaled_by_the_weight_of_their_rank():
    weight_L = jnp.array([1.0, 0.8, 0.5, 0.25, 0.0])
    found = soft_extract({"rank_weight_NL": weight_L}, 0, view(), None, protects_cls=True)
    np.testing.assert_allclose(found.scale_BL[0], [1.0, 0.5, 0.25, 0.8, 0.0])
    assert np.all(found.bias_BL == 0.0) and np.all(found.survival_BL == view().survival_BL)
    found = soft_extract({"rank_weight_NL": weight_L}, 0, view(), None, protects_cls=False)
    np.testing.assert_allclose(found.scale_BL[0], [0.25, 0.8, 0.5, 1.0, 0.0])


def test_the_search_starts_as_plain_bert():
    batch = make_batch()
    found, trace = full_width.forward(
        make_params(SEARCH), CONFIG, SEARCH, batch, slope=jnp.float32(1.0)
    )
    expected, _ = masked.forward(make_params(keep_all()), CONFIG, keep_all(), batch)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(trace.count_NB, np.broadcast_to(LENGTHS, (4, 4)))


def test_a_shorter_search_than_the_batch_is_refused():
    with pytest.raises(
        ValueError, match="the retention search is for 12 token slots, the batch has 16"
    ):
        full_width.forward(
            make_params(SEARCH), CONFIG, SEARCH, make_batch(num_slots=16), slope=jnp.float32(1.0)
        )


def test_the_mass_counts_late_layers_more():
    weight_NL = jnp.array([[1.0, 0.5], [0.25, 0.0]])
    assert float(mass_term({"rank_weight_NL": weight_NL}, None, None)["mass"]) == 1 * 1.5 + 2 * 0.25


@pytest.mark.long
def test_gradients_reach_the_weights_of_ranks_that_a_text_has():
    def loss(params):
        logits_BC, _ = full_width.forward(
            params, CONFIG, SEARCH, make_batch((7, 5)), slope=jnp.float32(1.0)
        )
        return jnp.sum(logits_BC**2)

    gradient_NL = jax.grad(loss)(make_params(SEARCH))["pruner"]["rank_weight_NL"]
    assert np.all(np.isfinite(gradient_NL)) and np.all(gradient_NL[:, 7:] == 0.0)
    # The last layer's states other than [CLS] reach no logit.
    assert (
        np.all(gradient_NL[:3, :7] != 0.0)
        and np.all(gradient_NL[3, 1:] == 0.0)
        and gradient_NL[3, 0] != 0.0
    )


def test_weights_of_ranks_stay_between_zero_and_one():
    found = SEARCH.constrain({"rank_weight_NL": jnp.array([[-0.5, 0.5, 1.5]])})
    assert found["rank_weight_NL"].tolist() == [[0.0, 0.5, 1.0]]


@pytest.mark.parametrize(("round_up", "expected"), [(False, (2, 1, 1, 1)), (True, (3, 2, 2, 1))])
def test_retention_is_the_mass_and_never_grows(round_up, expected):
    weight_NL = [[1.0, 1.0, 0.75], [1.0, 0.25, 0.0], [1.0, 1.0, 0.5], [0.0, 0.0, 0.0]]
    assert retention(weight_NL, round_up=round_up) == expected


@pytest.mark.parametrize("round_up", [False, True])
def test_the_search_answers_as_the_retention_that_it_leads_to(round_up):
    weight_NL = jnp.linspace(1.0, 0.1, 4)[:, None] * jnp.linspace(1.0, 0.2, NUM_SLOTS)[None]
    pruner, batch = powerbert_search(CONFIG, max_length=NUM_SLOTS, round_up=round_up), make_batch()
    found = masked.forward(params_with(pruner, rank_weight_NL=weight_NL), CONFIG, pruner, batch)
    counts = retention(weight_NL, round_up=round_up)
    assert len(set(counts)) == 4
    assert_trees_equal(found, masked.forward(retaining(*counts), CONFIG, HARD, batch))


@pytest.mark.parametrize(
    "counts",
    [(4, 3, 2), (4, 3, 2, 1, 1), (4, 3, 3, 0), (3, 4, 2, 1), (4, 3, 2.5, 1), (True, 1, 1, 1), ()],
)
def test_bad_retention_configurations_are_refused(counts):
    with pytest.raises(ValueError, match="expected 4 whole numbers, one for each layer"):
        check_retention(counts, 4)


def test_good_retention_configurations_are_tuples_of_ints():
    found = check_retention(np.array([4, 4, 2, 1]), 4)
    assert found == (4, 4, 2, 1) and all(type(count) is int for count in found)
