"""Parity with the AdapLeR authors' own program, quantity by quantity, in float32."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.inference.drivers import masked
from adapler_jax.pruning import adapler
from adapler_jax.training.losses import LossConfig, compute_losses, saliency
from adapler_jax.training.optimizers import (
    OptimizerConfig,
    join_thresholds,
    main_optimizer,
    split_thresholds,
    threshold_optimizer,
)
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.types import Batch, EncoderConfig
from adapler_jax.weights.rules import axis_sizes, model_rules
from adapler_jax.weights.tree import canonicalize, to_tensors, to_tree
from tests import plain_bert as encoder

SLOPES = ("10", "100", "1000", "1e20")
STEP_SLOPES = (10.0, 10.0, 100.0)
RATES = OptimizerConfig(
    learning_rate=3e-5,
    predictor_learning_rate=3e-5,
    threshold_learning_rate=5e-4,
    weight_decay=0.01,
    adam_epsilon=1e-12,
    clip_norm=1.0,
    warmup_ratio=0.06,
)
NUM_STEPS = 100


class Golden:
    """One reference file: arrays, the encoder's config, the parameter tree and the batch."""

    def __init__(self, path):
        with np.load(path) as arrays:
            self.arrays = dict(arrays)
        raw = json.loads(str(self.arrays["config"]))
        self.config = EncoderConfig(
            num_layers=raw["num_hidden_layers"],
            num_heads=raw["num_attention_heads"],
            hidden_dim=raw["hidden_size"],
            ffn_dim=raw["intermediate_size"],
            vocab_size=raw["vocab_size"],
            num_positions=raw["max_position_embeddings"],
            hidden_dropout_prob=0.0,
            attention_dropout_prob=0.0,
        )
        self.pruner = adapler(
            self.config, relative_length=False, stop_target_gradient=False, clip_cls_ratio=False
        )
        tensors = self.under("weights/")
        tensors["contribution_predictor.threshold"] = self.arrays["eta"]
        tensors["contribution_predictor.cls_ratio"] = np.concatenate(
            [[1.0], self.arrays["theta"]]
        ).astype(np.float32)
        self.sizes = axis_sizes(self.config, num_classes=3, predictor_dim=32)
        self.params = to_tree(canonicalize(tensors, path), model_rules("adapler"), self.sizes)
        self.batch = Batch(
            token_BL=self.arrays["input_ids"],
            segment_BL=self.arrays["token_type_ids"],
            valid_BL=self.arrays["attention_mask"] > 0,
            label_B=self.arrays["labels"].astype(np.int32),
            example_id_B=np.arange(4, dtype=np.int32),
            saliency_BL=self.arrays["saliency_target"],
        )
        self.losses = LossConfig(
            (
                ("main", "contribution", float(self.arrays["gamma"])),
                ("speedup", "length", float(self.arrays["phi"])),
            )
        )

    def __getitem__(self, name):
        return self.arrays[name]

    def under(self, prefix):
        """Arrays whose names start with the prefix, without it."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.arrays.items()
            if name.startswith(prefix)
        }

    def tensors(self, tree):
        """A parameter tree in the file's names and shapes."""
        return to_tensors(tree, model_rules("adapler"), self.sizes)


@pytest.fixture(scope="module")
def golden(golden_path):
    return Golden(golden_path)


def assert_near(found, expected, tolerance):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance)


def soft_forward(golden, slope):
    def run(params, batch, slope):
        return full_width.forward(params, golden.config, golden.pruner, batch, slope=slope)

    return jax.jit(run)(golden.params, golden.batch, jnp.float32(float(slope)))


@pytest.mark.parametrize("slope", SLOPES)
def test_soft_forward_matches(golden, slope):
    logits_BC, trace = soft_forward(golden, slope)
    expected = golden.under(f"forward/lambda_{slope}/")
    # Relative and absolute: the equations in float64 differ by 1.5e-5 (logits) and 3.1e-5 (soft
    # lengths, slope 100) from the reference, which is its own rounding.
    np.testing.assert_allclose(logits_BC, expected["logits"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(trace.score_NBL, expected["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(trace.count_NB, expected["soft_lengths"], rtol=2e-5, atol=2e-5)


def test_hidden_states_match_layer_by_layer(golden):
    embedded_BLD = encoder.embed(
        golden.params["encoder"]["embeddings"],
        golden.config,
        golden.batch.token_BL,
        golden.batch.segment_BL,
    )
    expected_NBLD = golden["forward/lambda_10/hidden_states"]
    assert_near(embedded_BLD, expected_NBLD[0], 2e-5)

    @jax.jit
    def run(params, embedded_BLD, valid_BL):
        return full_width.forward_layers(
            params,
            golden.config,
            golden.pruner,
            embedded_BLD,
            valid_BL,
            slope=jnp.float32(10.0),
            key=None,
            dtype=jnp.float32,
            collect_hidden=True,
        )

    _, _, hidden_NBLD = run(golden.params, embedded_BLD, golden.batch.valid_BL)
    # The equations in float64 differ by 4.3e-5 from the reference.
    assert_near(hidden_NBLD, expected_NBLD[1:], 1e-4)


def test_hard_removal_matches_token_by_token(golden):
    logits_BC, trace = masked.forward(golden.params, golden.config, golden.pruner, golden.batch)
    entering_NBL = np.concatenate(
        [golden.batch.valid_BL[None], np.asarray(trace.survival_NBL[:-1]) > 0]
    )
    for row in range(4):
        assert_near(logits_BC[row], golden[f"hard/{row}/logits"][0], 2e-5)
        np.testing.assert_array_equal(
            trace.count_NB[:, row], golden[f"hard/{row}/tokens_per_layer"]
        )
        for layer in range(golden.config.num_layers):
            scores = np.asarray(trace.score_NBL)[layer, row][entering_NBL[layer, row]]
            assert_near(scores, golden[f"hard/{row}/scores_layer_{layer}"][0], 2e-5)


def test_the_steepest_slope_is_the_hard_rule(golden):
    _, soft = soft_forward(golden, "1e20")
    _, hard = masked.forward(golden.params, golden.config, golden.pruner, golden.batch)
    np.testing.assert_array_equal(soft.count_NB, hard.count_NB)
    np.testing.assert_array_equal(soft.survival_NBL, hard.survival_NBL)


def test_saliency_matches(golden):
    params = golden.params | {"pruner": {}}
    saliency_BL, _ = saliency(params, golden.config, golden.batch)
    assert_near(saliency_BL, golden["computed_saliency"], 2e-5)


def test_both_losses_and_all_gradients_of_the_first_step_match(golden):
    weights, thresholds = split_thresholds(golden.params, golden.pruner)

    @jax.jit
    def differentiate(weights, thresholds):
        def run(weights, thresholds):
            params = join_thresholds(weights, thresholds)
            return compute_losses(
                params,
                golden.config,
                golden.pruner,
                golden.batch,
                golden.losses,
                slope=jnp.float32(STEP_SLOPES[0]),
                key=None,
                dtype=jnp.float32,
            )

        _, pull, numbers = jax.vjp(run, weights, thresholds, has_aux=True)
        return numbers, pull((1.0, 0.0))[0], pull((0.0, 1.0))[1]

    numbers, main_grads, threshold_grads = differentiate(weights, thresholds)
    expected = golden.under("train/step0/")
    names = {
        "main": "loss_main",
        "speedup": "loss_speedup",
        "task": "cross_entropy",
        "contribution": "kl_weighted_sum",
        "length": "length",
    }
    for ours, theirs in names.items():
        np.testing.assert_allclose(numbers[ours], expected[theirs], rtol=1e-5, err_msg=ours)
    assert_relative(threshold_grads["threshold_N"], expected["grad_eta"], "eta")
    assert_relative(threshold_grads["cls_ratio_N"][1:], expected["grad_theta"], "theta")
    assert float(threshold_grads["cls_ratio_N"][0]) == 0.0
    found = golden.tensors(main_grads | {"pruner": main_grads["pruner"] | thresholds})
    gradients = golden.under("train/step0/grad/")
    checked = [name for name, gradient in gradients.items() if np.abs(gradient).max() > 1e-4]
    assert len(checked) > 200
    for name in checked:
        assert_relative(found[name], gradients[name], name)


def assert_relative(found, expected, name):
    """Within 1e-3 of the largest entry."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        np.asarray(found), expected, rtol=0, atol=1e-3 * largest, err_msg=name
    )


def test_three_training_steps_match(golden):
    main, thresholds = main_optimizer(RATES, NUM_STEPS), threshold_optimizer(RATES, NUM_STEPS)
    slopes = jnp.asarray(STEP_SLOPES)
    step_fn = jax.jit(
        make_train_step(
            golden.config,
            golden.pruner,
            golden.losses,
            main,
            thresholds,
            slope_fn=lambda step: slopes[step],
            dtype=jnp.float32,
        )
    )
    state = init_state(golden.params, golden.pruner, main, thresholds)
    key = jax.random.key(0)
    for step in range(3):
        state, numbers = step_fn(state, golden.batch, key)
        expected = golden.under(f"train/step{step}/")
        np.testing.assert_allclose(numbers["main"], expected["loss_main"], rtol=1e-5)
        np.testing.assert_allclose(numbers["speedup"], expected["loss_speedup"], rtol=1e-5)
        np.testing.assert_allclose(numbers["length"], expected["length"], rtol=1e-5)
        assert_near(state.params["pruner"]["threshold_N"], expected["eta_after"], 2e-7)
        assert_near(state.params["pruner"]["cls_ratio_N"][1:], expected["theta_after"], 1e-6)
    found = golden.tensors(state.params)
    gradients = golden.under("train/step0/grad/")
    after = golden.under("train/step2/weights_after/")
    for name, expected in after.items():
        # Adam divides by the gradient's own size, so where that is rounding noise the move's
        # direction is too.
        sure = np.abs(gradients[name]) > max(1e-4, 1e-2 * np.abs(gradients[name]).max())
        if sure.any():
            assert np.abs(expected - golden["weights/" + name])[sure].max() > 1e-6
            assert_near(found[name][sure], expected[sure], 1e-6)


def test_the_golden_file_is_read_as_written(golden):
    chex.assert_shape(golden.params["pruner"]["hidden"]["kernel"], (12, 32, 32))
    np.testing.assert_array_equal(
        golden.params["encoder"]["layers"]["ffn_in"]["kernel"][3],
        golden["weights/bert.encoder.layer.3.intermediate.dense.weight"].T,
    )
