"""AdapLeR: a contribution predictor and a trained threshold in front of every layer.

Source: Modarressi, Mohebbi, Pilehvar, "AdapLeR: Speeding up Inference by Adaptive Length Reduction", ACL 2022.
Where the released program and the paper's idea part, the docstrings say so; `adapler(...)` names the choices.
"""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.encoders.bert import ACTIVATIONS, exact_linear, init_linear
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import (
    BEFORE_ATTENTION,
    MASK_BIAS,
    PADDING_EXAMPLE_ID,
    EncoderConfig,
    Selection,
    Site,
    SoftSelection,
)

RETENTION_SLACK = (
    0.1  # beta: how far below 1 a token just above the threshold stays, divided by the slope
)
SCORE_SUM_EPS = 1e-15  # guards divisions by sums of scores
MASKED_LOGIT = -1e30  # of padding in the softmax over tokens
SCORE_RTOL = (
    1e-6  # relative; equal scores of 1 / n must not fall under a threshold of 1 / n by a rounding
)
SURVIVAL_EPS = 1e-6  # a token of less weight is not shrunk any further
MIN_CLS_SCALE = 0.001
THRESHOLD_RANGE = (0.01, 1.0)  # at 1 the threshold is the uniform score 1 / n
MIN_PROBABILITY = 1e-7  # both sides of the divergence are clipped to it


def init_params(key, config: EncoderConfig, *, predictor_dim: int, initial_threshold: float):
    """Predictors D -> P -> 1 of every layer, threshold ratios eta and [CLS] ratios theta (entry 0 stays 1, unused)."""
    hidden_key, score_key = jax.random.split(key)
    N, D, P = config.num_layers, config.hidden_dim, predictor_dim
    return {
        "hidden": init_linear(hidden_key, (N, D, P), config.init_std),
        "score": init_linear(score_key, (N, P, 1), config.init_std),
        "threshold_N": jnp.full((N,), initial_threshold, jnp.float32),
        "cls_ratio_N": jnp.ones((N,), jnp.float32),
    }


def contribution_logits(params, hidden, *, activation):
    """What a layer's predictor says of each token: z = W2 act(W1 h + b1) + b2, float32 [...] of states [..., D].

    Args: params: one site's {"hidden", "score"}.
    """
    return exact_linear(
        params["score"], ACTIVATIONS[activation](exact_linear(params["hidden"], hidden))
    )[..., 0]


def contribution_scores(logit_BL, remaining_BL, survival_BL):
    """Share of each token in the prediction, of the logits z of the predictor.

        s_i = softmax(z)_i w_i / (sum_j softmax(z)_j w_j + 1e-15)

    Args: remaining_BL: bool. survival_BL: soft survival, 1 on [CLS], 0 on padding.
    Returns float32 [B, L], sums to 1 over an example, exactly 0 on padding.
    Source: section 3 of the paper (an MLP and a softmax); the product with the weights is the released program's. There
    padding takes part in the softmax and is divided out again; here it never enters.
    """
    # A finite fill: a filler row without a valid token must give zeros, not NaN.
    share_BL = jax.nn.softmax(jnp.where(remaining_BL, logit_BL, MASKED_LOGIT), axis=-1)
    return normalise(jnp.where(remaining_BL, share_BL * survival_BL, 0.0))


def normalise(x_BL):
    """x / (sum(x) + 1e-15) over the tokens of an example."""
    return x_BL / (jnp.sum(x_BL, axis=-1, keepdims=True) + SCORE_SUM_EPS)


def min_grad_left(left, right):
    """Elementwise minimum whose gradient goes to `left` on a tie (jnp.minimum would split it)."""
    return jnp.where(left <= right, left, right)


def soft_removal(score, threshold, slope):
    """Additive log-retention of a token, in [-10000, 0].

        f = max(-10000, min(0, min(f1, f2)))
        f1 = slope / delta (x - delta) - beta / slope         steep, below the threshold
        f2 = (x - 1) beta / slope / (1 - delta)               nearly flat, above it

    Args: score x in [0, 1] and threshold delta in (0, 1), broadcastable; slope lambda > 0; beta = 0.1.
    At x = 0 the value is -slope - beta / slope whatever delta is. As slope grows it becomes the hard rule x >= delta.
    Source: the paper's soft-removal function, in the constants of the released program.
    """
    slack = RETENTION_SLACK / slope
    below = slope / (threshold + 1e-30) * (score - threshold) - slack
    above = (score - 1.0) * slack / (1.0 - threshold + 1e-7)
    lowest = min_grad_left(jnp.zeros_like(below), min_grad_left(below, above))
    return jnp.where(lowest >= MASK_BIAS, lowest, MASK_BIAS)


def rescale_cls(score_BL, factor):
    """Multiplies the [CLS] entry (slot 0) by a scalar and normalises again."""
    return normalise(score_BL.at[:, 0].multiply(factor))


def straight_through_ratio(ratio, index):
    """A factor that is exactly 1 and whose derivative by `ratio` is 1 / ratio; a constant 1 at the first site.

    theta acts on the targets only, which the speed-up loss does not see. Were the predictor to match its target,
    scaling its own [CLS] score by theta'/theta would do the same: the factor gives theta that gradient and changes no
    value.
    """
    fixed = jax.lax.stop_gradient(ratio)
    factor = 1.0 + (ratio - fixed) / (fixed + 1e-7)
    return jnp.where(index == 0, 1.0, jnp.maximum(MIN_CLS_SCALE, factor))


def soften(params, index, view, slope):
    """Soft removal at one site: scores, additive key bias, and the weights that survive.

        delta = eta / n;   e_i = f(x_i, delta, slope) w_i;   w_i <- w_i exp(e_i) while w_i > 1e-6;   e_[CLS] = 0

    n is the soft number of tokens that enter, [CLS] included. Hidden states are not scaled: a removed token still asks,
    but nobody attends to it. Source: the released program's forward pass.
    """
    score_BL = contribution_scores(view.token_logit_BL, view.remaining_BL, view.survival_BL)
    shifted_BL = rescale_cls(score_BL, straight_through_ratio(params["cls_ratio_N"], index))
    num_entering_B1 = jnp.sum(view.survival_BL, axis=-1, keepdims=True)
    threshold_B1 = params["threshold_N"] / jnp.where(
        num_entering_B1 > 0.0, num_entering_B1, 1.0
    )  # rows without tokens
    removable_BL = view.survival_BL.at[:, 0].set(0.0)
    bias_BL = soft_removal(shifted_BL, threshold_B1, slope) * removable_BL
    shrunk_BL = view.survival_BL * jnp.exp(bias_BL)
    survival_BL = jnp.where(view.survival_BL > SURVIVAL_EPS, shrunk_BL, view.survival_BL)
    return SoftSelection(score_BL=score_BL, bias_BL=bias_BL, survival_BL=survival_BL)


def select(params, index, view):
    """Hard removal at one site: keep [CLS] and every token with score >= eta / n, n the number of tokens that enter."""
    del index
    survival_BL = view.remaining_BL.astype(jnp.float32)
    score_BL = contribution_scores(view.token_logit_BL, view.remaining_BL, survival_BL)
    threshold_B1 = params["threshold_N"] / jnp.maximum(
        1.0, jnp.sum(survival_BL, axis=-1, keepdims=True)
    )
    keep_BL = view.remaining_BL & (score_BL >= threshold_B1 * (1.0 - SCORE_RTOL))
    return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(view.remaining_BL[:, 0]))


def layer_targets(saliency_BL, entering_NBL, cls_ratio_N):
    """What each layer's predictor should say: the saliency of the tokens still there, float32 [N, B, L].

        t = normalise(S w_l);  layers after the first: t_[CLS] <- theta_l t_[CLS], normalise again

    Source: the released program; the paper writes the target with a layer index only.
    """

    def target(survival_BL, ratio, index):
        return rescale_cls(normalise(saliency_BL * survival_BL), jnp.where(index == 0, 1.0, ratio))

    return jax.vmap(target)(entering_NBL, cls_ratio_N, jnp.arange(cls_ratio_N.shape[0]))


def divergences(target_NBL, score_NBL):
    """KL(target || score) of every site and example, float32 [N, B]; both clipped to [1e-7, 1]."""
    target, score = (jnp.clip(x, MIN_PROBABILITY, 1.0) for x in (target_NBL, score_NBL))
    return jnp.sum(target * jnp.log(target / score), axis=-1)


def loss_terms(
    params,
    trace,
    batch,
    *,
    relative_length: bool,
    stop_target_gradient: bool,
    length_target: float = 0.0,
):
    """The two terms of AdapLeR, float32 scalars, means over the examples that are no filler.

        contribution = sum_l (N - l) KL_l        length = max(0, sum_l n_l - length_target)

    KL_l fades with the largest weight that is left beside [CLS]: with only [CLS] there is nothing to learn.
    Args: relative_length: sum_l n_l as its share of N n, in (0, 1], so that one coefficient serves short and long
    texts; False is the released program (tokens, summed over layers).
    length_target: where the mean length stops counting, in the same unit; the term is what exceeds it, so that
    thresholds that have the steps to get there settle there, whatever the coefficient. 0 is the released program: they
    settle where the task loss happens to stop them.
    stop_target_gradient: no gradient through the targets; False is the released program, where predictors can lower the
    loss by shaping the masks of earlier layers.
    """
    N = trace.score_NBL.shape[0]
    real_B = (batch.example_id_B != PADDING_EXAMPLE_ID).astype(jnp.float32)
    num_real = jnp.maximum(1.0, jnp.sum(real_B))
    valid_BL = batch.valid_BL.astype(jnp.float32)
    entering_NBL = jnp.concatenate([valid_BL[None], trace.survival_NBL[:-1]])
    target_NBL = layer_targets(batch.saliency_BL, entering_NBL, params["cls_ratio_N"])
    if stop_target_gradient:
        target_NBL = jax.lax.stop_gradient(target_NBL)
    left_NB = jax.lax.stop_gradient(jnp.max(entering_NBL[:, :, 1:], axis=-1))
    kl_NB = divergences(target_NBL, trace.score_NBL) * left_NB
    kl_N = jnp.sum(kl_NB * real_B[None], axis=-1) / num_real
    length_B = jnp.sum(trace.count_NB, axis=0)
    if relative_length:
        length_B = length_B / (N * jnp.maximum(1.0, jnp.sum(valid_BL, axis=-1)))
    return {
        "contribution": jnp.sum(jnp.arange(N, 0, -1, dtype=jnp.float32) * kl_N),
        "length": jnp.maximum(0.0, jnp.sum(length_B * real_B) / num_real - length_target),
    }


def constrain(params, *, clip_cls_ratio: bool):
    """Threshold ratios back into [0.01, 1]; [CLS] ratios to at least 0.001 where asked (the released program lets
    them cross zero, which makes negative targets)."""
    ratio_N = params["cls_ratio_N"]
    return params | {
        "threshold_N": jnp.clip(params["threshold_N"], *THRESHOLD_RANGE),
        "cls_ratio_N": jnp.maximum(MIN_CLS_SCALE, ratio_N) if clip_cls_ratio else ratio_N,
    }


@functools.cache  # one object for equal arguments, so that phases of a run share compiled programs
def adapler(
    config: EncoderConfig,
    *,
    predictor_dim: int = 32,
    initial_threshold: float = 0.25,
    relative_length: bool = True,
    length_target: float = 0.0,
    stop_target_gradient: bool = True,
    clip_cls_ratio: bool = True,
) -> Pruner:
    """The AdapLeR pruner of an encoder. All three flags False and no length target is the released program."""
    return Pruner(
        name="adapler",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in range(config.num_layers)),
        init=functools.partial(
            init_params, predictor_dim=predictor_dim, initial_threshold=initial_threshold
        ),
        score=functools.partial(contribution_logits, activation=config.activation),
        soft=soften,
        hard=select,
        loss_terms=functools.partial(
            loss_terms,
            relative_length=relative_length,
            length_target=length_target,
            stop_target_gradient=stop_target_gradient,
        ),
        constrain=functools.partial(constrain, clip_cls_ratio=clip_cls_ratio),
        length_loss_params=frozenset({"threshold_N", "cls_ratio_N"}),
    )
