"""AdapLeR: a contribution predictor and a trained threshold before every layer.

Source: Modarressi, Mohebbi, Pilehvar, "AdapLeR: Speeding up Inference by Adaptive Length
Reduction", ACL 2022. Docstrings name the differences between the paper and the released program;
`adapler(...)` has the choices.
"""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.budgets import at_budget, shares_at_budget
from adapler_jax.pruning.scores import init_scorer, make_scorer, scorer_site_flops
from adapler_jax.pruning.shares import keep_highest
from adapler_jax.types import (
    BEFORE_ATTENTION,
    MASK_BIAS,
    PADDING_EXAMPLE_ID,
    Array,
    Batch,
    EncoderConfig,
    Params,
    Rule,
    Selection,
    Site,
    SiteInput,
    SoftSelection,
    Trace,
    linear_rules,
)

RETENTION_SLACK = (
    0.1  # beta: over the slope, how far below 1 the survival just above the threshold is
)
SCORE_SUM_EPS = 1e-15  # guards divisions by sums of scores
MASKED_LOGIT = -1e30  # of padding in the softmax over tokens
# Relative. Equal scores of 1 / n must not fall under a threshold of 1 / n by rounding.
SCORE_RTOL = 1e-6
SURVIVAL_EPS = 1e-6  # a token of less survival does not shrink any further
MIN_CLS_SCALE = 0.001
THRESHOLD_RANGE = (0.01, 1.0)  # at 1 the threshold is the uniform score 1 / n
MIN_PROBABILITY = 1e-7  # both sides of the divergence are clipped to it
TENSOR_RULES = (
    *linear_rules("contribution_predictor.{layer}.hidden", "pruner/hidden", "DP"),
    *linear_rules("contribution_predictor.{layer}.score", "pruner/score", "P1"),
    Rule("contribution_predictor.threshold", ("pruner", "threshold_N"), "N"),
    Rule("contribution_predictor.cls_ratio", ("pruner", "cls_ratio_N"), "N"),
)


def init_params(
    key: Array, config: EncoderConfig, *, predictor_dim: int, initial_threshold: float
) -> Params:
    """Return predictors, threshold ratios eta and [CLS] ratios theta (entry 0 stays 1, unused)."""
    N = config.num_layers
    return init_scorer(key, N, predictor_dim, config) | {
        "threshold_N": jnp.full((N,), initial_threshold, jnp.float32),
        "cls_ratio_N": jnp.ones((N,), jnp.float32),
    }


def contribution_scores(logit_BL: Array, remaining_BL: Array, survival_BL: Array) -> Array:
    """Return each token's fraction of the prediction from the predictor's logits z.

        s_i = softmax(z)_i w_i / (sum_j softmax(z)_j w_j + 1e-15)

    Args:
      logit_BL: float32.
      remaining_BL: bool.
      survival_BL: soft survival w, 1 on [CLS], 0 on padding.

    Returns:
      float32 [B, L], of sum 1 over an example, exactly 0 on padding.

    Source: section 3 of the paper (an MLP and a softmax). The released program multiplies by the
      survival. There padding
    is in the softmax and is divided out again; here it never enters.
    """
    # A finite fill: a padding row without a valid token must give zeros, not NaN.
    prob_BL = jax.nn.softmax(jnp.where(remaining_BL, logit_BL, MASKED_LOGIT), axis=-1)
    return normalise(jnp.where(remaining_BL, prob_BL * survival_BL, 0.0))


def normalise(x_BL: Array) -> Array:
    """Return x / (sum(x) + 1e-15) over the tokens of an example."""
    return x_BL / (jnp.sum(x_BL, axis=-1, keepdims=True) + SCORE_SUM_EPS)


def min_grad_left(left: Array, right: Array) -> Array:
    """Return the minimum, whose gradient goes to `left` on a tie (jnp.minimum would split it)."""
    return jnp.where(left <= right, left, right)


def soft_removal(score: Array, threshold: Array, slope: Array) -> Array:
    """Return the additive log-survival of a token, in [-10000, 0].

        f = max(-10000, min(0, min(f1, f2)))
        f1 = slope / delta (x - delta) - beta / slope         steep, below the threshold
        f2 = (x - 1) beta / slope / (1 - delta)               nearly flat, above it

    At x = 0 the value is -slope - beta / slope whatever delta is. With a growing slope it becomes
    the hard rule x >= delta.

    Args:
      score: x in [0, 1].
      threshold: delta in (0, 1), broadcastable.
      slope: lambda > 0; beta is 0.1.

    Source: the paper's soft-removal function, with the constants of the released program.
    """
    slack = RETENTION_SLACK / slope
    below = slope / (threshold + 1e-30) * (score - threshold) - slack
    above = (score - 1.0) * slack / (1.0 - threshold + 1e-7)
    lowest = min_grad_left(jnp.zeros_like(below), min_grad_left(below, above))
    return jnp.where(lowest >= MASK_BIAS, lowest, MASK_BIAS)


def rescale_cls(score_BL: Array, factor: Array) -> Array:
    """Return the scores with [CLS] (slot 0) multiplied by a scalar, normalised again."""
    return normalise(score_BL.at[:, 0].multiply(factor))


def straight_through_ratio(ratio: Array, layer: Array) -> Array:
    """Return a factor that is exactly 1 and whose derivative by `ratio` is 1 / ratio; 1 at layer 0.

    theta acts on the targets only, where the speed-up loss has no gradient. If the predictor
    equalled its target, scaling its own [CLS] score by theta'/theta would have the same effect. The
    factor gives theta that gradient and changes no value.
    """
    fixed = jax.lax.stop_gradient(ratio)
    factor = 1.0 + (ratio - fixed) / (fixed + 1e-7)
    return jnp.where(layer == 0, 1.0, jnp.maximum(MIN_CLS_SCALE, factor))


def soft_select(params: Params, layer: Array, site: SiteInput, slope: Array) -> SoftSelection:
    """Return scores, additive key bias and survival of the soft removal at one site.

        delta = eta / n;   e_i = f(x_i, delta, slope) w_i;   w_i <- w_i exp(e_i) while w_i > 1e-6;
        e_[CLS] = 0

    n is the soft number of tokens that enter, [CLS] included. Hidden states are not scaled: a
    removed token remains a query, but no token attends to it.

    Source: the released program's forward pass.
    """
    score_BL = contribution_scores(site.token_logit_BL, site.remaining_BL, site.survival_BL)
    shifted_BL = rescale_cls(score_BL, straight_through_ratio(params["cls_ratio_N"], layer))
    num_entering_B1 = jnp.sum(site.survival_BL, axis=-1, keepdims=True)
    # Rows without tokens must not divide by 0.
    threshold_B1 = params["threshold_N"] / jnp.where(num_entering_B1 > 0.0, num_entering_B1, 1.0)
    removable_BL = site.survival_BL.at[:, 0].set(0.0)
    bias_BL = soft_removal(shifted_BL, threshold_B1, slope) * removable_BL
    shrunk_BL = site.survival_BL * jnp.exp(bias_BL)
    survival_BL = jnp.where(site.survival_BL > SURVIVAL_EPS, shrunk_BL, site.survival_BL)
    return SoftSelection(score_BL=score_BL, bias_BL=bias_BL, survival_BL=survival_BL)


def hard_select(params: Params, layer: Array, site: SiteInput) -> Selection:
    """Keep [CLS] and every token with score >= eta / n, n the number of tokens that enter.

    A text whose budget was calibrated with shares keeps its tokens of the highest scores instead.
    """
    del layer
    survival_BL = site.remaining_BL.astype(jnp.float32)
    score_BL = contribution_scores(site.token_logit_BL, site.remaining_BL, survival_BL)
    num_entering_B1 = jnp.sum(survival_BL, axis=-1, keepdims=True)
    eta_B1 = at_budget(params, "threshold_N", site, full=0.0)
    threshold_B1 = eta_B1 / jnp.maximum(1.0, num_entering_B1)
    keep_BL = site.remaining_BL & (score_BL >= threshold_B1 * (1.0 - SCORE_RTOL))
    share_B1 = shares_at_budget(params, site)
    if share_B1 is not None:
        ranked_BL = keep_highest(score_BL, site.remaining_BL, share_B1)
        keep_BL = jnp.where(jnp.isnan(share_B1), keep_BL, ranked_BL)
    return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(site.remaining_BL[:, 0]))


def layer_targets(saliency_BL: Array, entering_NBL: Array, cls_ratio_N: Array) -> Array:
    """Return each predictor's target, the saliency of the tokens left, float32 [N, B, L].

        t = normalise(S w_l);  layers after the first: t_[CLS] <- theta_l t_[CLS], normalise again

    Source: the released program; the paper writes the target with a layer index only.
    """

    def target(survival_BL, ratio, layer):
        """Return the target of one layer."""
        target_BL = normalise(saliency_BL * survival_BL)
        return rescale_cls(target_BL, jnp.where(layer == 0, 1.0, ratio))

    return jax.vmap(target)(entering_NBL, cls_ratio_N, jnp.arange(cls_ratio_N.shape[0]))


def divergences(target_NBL: Array, score_NBL: Array) -> Array:
    """Return KL(target || score) of every site and example, float32 [N, B], both clipped."""
    target, score = (jnp.clip(x, MIN_PROBABILITY, 1.0) for x in (target_NBL, score_NBL))
    return jnp.sum(target * jnp.log(target / score), axis=-1)


def loss_terms(
    params: Params,
    trace: Trace,
    batch: Batch,
    *,
    relative_length: bool,
    stop_target_gradient: bool,
    length_target: float = 0.0,
) -> dict[str, Array]:
    """Return the two terms of AdapLeR, float32 scalars, means over the real examples.

        contribution = sum_l (N - l) KL_l        length = max(0, sum_l n_l - length_target)

    KL_l fades with the largest survival that is left besides [CLS]: with only [CLS] there is
    nothing to learn.

    Args:
      params: the method's subtree.
      trace: of the pass.
      batch: with saliency_BL.
      relative_length: sum_l n_l as a fraction of N n, in (0, 1], so that one coefficient serves
        short and long texts. False is the released program: tokens, summed over layers.
      stop_target_gradient: no gradient through the targets. False is the released program, where
        predictors can lower the loss by shaping the masks of earlier layers.
      length_target: mean length from which the term is 0, in the unit of `relative_length`.
        Thresholds with enough steps settle there, whatever the coefficient. 0 is the released
        program, where the task loss stops them.
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
    mean_length = jnp.sum(length_B * real_B) / num_real
    return {
        "contribution": jnp.sum(jnp.arange(N, 0, -1, dtype=jnp.float32) * kl_N),
        "length": jnp.maximum(0.0, mean_length - length_target),
    }


def constrain(params: Params, *, clip_cls_ratio: bool) -> Params:
    """Return threshold ratios in [0.01, 1], with `clip_cls_ratio` [CLS] ratios >= 0.001.

    In the released program [CLS] ratios cross zero, which makes negative targets.
    """
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
    """Return the AdapLeR pruner of an encoder.

    The three flags False and length target 0 are the released program.
    """
    return Pruner(
        name="adapler",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in range(config.num_layers)),
        init=functools.partial(
            init_params, predictor_dim=predictor_dim, initial_threshold=initial_threshold
        ),
        score=make_scorer(config, config.activation),
        soft=soft_select,
        hard=hard_select,
        loss_terms=functools.partial(
            loss_terms,
            relative_length=relative_length,
            length_target=length_target,
            stop_target_gradient=stop_target_gradient,
        ),
        constrain=functools.partial(constrain, clip_cls_ratio=clip_cls_ratio),
        tensor_rules=TENSOR_RULES,
        site_flops=scorer_site_flops,
        takes_budgets=True,
        length_loss_params=frozenset({"threshold_N", "cls_ratio_N"}),
    )
