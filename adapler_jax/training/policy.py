"""Train TR-BERT's selectors: importance scores to imitate, the policy's loss, and steps.

Source: Ye et al., "TR-BERT", NAACL 2021, and its released program. The docstrings say where ours
differs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adapler_jax import forward as full_width
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import layers_of
from adapler_jax.forward import DEFAULT_SCAN
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import Pruner, params_of_layers, rank_descending, score_tokens
from adapler_jax.pruning.trbert import action_losses, probabilities, selected_fraction
from adapler_jax.training.losses import soft_speedup, weighted
from adapler_jax.training.steps import ThresholdController, TrainState
from adapler_jax.types import (
    PADDING_EXAMPLE_ID,
    Batch,
    EncoderConfig,
    Params,
    SamplingNoise,
    ScanOptions,
    SiteInput,
    Trace,
)


class PolicyConfig(NamedTuple):
    """Numbers of the policy's loss; hashable."""

    length_coef: float  # alpha: on the fraction of tokens kept, added to the task's loss
    num_samples: int = 8  # K action samples of each text
    sample_batch_size: int = 1  # of those, in memory at a time; 0: all
    imitation_ratio: float = 0.0  # of the steps, in which the first sample imitates the heuristic
    task_coef: float = 0.0  # 1 where the encoder is trained too
    distil_coef: float = 0.0  # share of the teacher's soft labels in the task's loss
    class_weights: tuple[float, ...] = ()  # of an example's task loss, by its label; none: 1
    normalize_by_padded_length: bool = (
        False  # shares of the batch's slots in place of the text's tokens: the released program
    )


def check_depth(config: EncoderConfig, layers: tuple[int, ...]) -> int:
    """Return the layer whose output has the importance scores' gradient, from 0: two thirds up.

    Raises:
      ValueError: the encoder is so shallow that only [CLS] has a gradient there, or a selector is
        above that layer.
    """
    layer = 2 * config.num_layers // 3
    if layer >= config.num_layers - 1 or layers[-1] - 1 >= layer:
        raise ValueError(
            f"importance scores are undefined for {config.num_layers} layers with selection before "
            f"layers {layers}: they use the gradient after layer {layer}; set "
            "config.trbert.imitation_ratio and config.trbert.init_num_epochs to 0"
        )
    return layer


def importance_scores(
    params: Params,
    config: EncoderConfig,
    batch: Batch,
    *,
    layers: tuple[int, ...],
    dtype,
    head: Head = CLASSIFICATION,
):
    """Return how much each token's change above a selector matters to the fine-tuned model's loss.

        s_t = | < dloss / dH_r[t], H_r[t] - H_l[t] > |

    H_l are the states at the selector, H_r the states two thirds up. Each example has its loss.

    Returns:
      Scores, float32 [B, J, L], 0 on padding; and the head's logits.

    Source: the paper's residual strategy. The released program uses the batch's mean loss, which
    divides the scores by the batch size.
    """
    top = check_depth(config, layers) + 1
    tree = layers_of(encoder_of(config), params["encoder"])
    below, above = (
        jax.tree.map(lambda leaf, part=part: leaf[part], tree)
        for part in (slice(None, top), slice(top, None))
    )
    pruner, options = keep_all(), {"slope": None, "key": None, "dtype": dtype}
    start_BLD = full_width.embed_tokens(params, config, batch)

    def run(part, hidden_BLD, **more):
        found = {"encoder": {"layers": part}, "pruner": {}}
        return full_width.forward_layers(
            found, config, pruner, hidden_BLD, batch.valid_BL, **options, **more
        )

    high_BLD, _, hidden_NBLD = run(below, start_BLD, collect_hidden=True)

    def loss(high_BLD):
        last_BLD, _, _ = run(above, high_BLD, first_layer=top)
        logits = full_width.head_logits(params, config, head, last_BLD, batch)
        return jnp.sum(head.loss_fn(logits, batch, 0.0)), logits

    gradient_BLD, logits = jax.grad(loss, has_aux=True)(high_BLD)
    scores = [
        jnp.abs(jnp.sum(gradient_BLD * (high_BLD - hidden_NBLD[layer - 1]), axis=-1))
        for layer in layers
    ]
    return jnp.where(batch.valid_BL[:, None], jnp.stack(scores, axis=1), 0.0), logits


def rank_targets(importance_BJL, valid_BL):
    """Return 1 - rank / n of each token at each site, float32 [B, J, L].

    Rank 0 is the highest score. Padding is 0.
    """
    length_B11 = jnp.maximum(1.0, jnp.sum(valid_BL, axis=-1, dtype=jnp.float32))[:, None, None]
    rank_BJL = jax.vmap(rank_descending, in_axes=(1, None), out_axes=1)(
        importance_BJL, valid_BL
    ).astype(jnp.float32)
    return jnp.where(valid_BL[:, None], 1.0 - rank_BJL / length_B11, 0.0)


def init_objective(
    params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, target_BJL, *, dtype
):
    """Return the mean distance of the selectors' probabilities to their targets, and metrics.

    The distance is summed over the sites. Nothing is dropped.

    Source: stage `initbert` of the released program, which multiplies by the mean of 1 / n again.
    """
    start_BLD = full_width.embed_tokens(params, config, batch)
    _, _, hidden_NBLD = full_width.forward_layers(
        params | {"pruner": {}},
        config,
        keep_all(),
        start_BLD,
        batch.valid_BL,
        slope=None,
        key=None,
        dtype=dtype,
        collect_hidden=True,
    )
    assert hidden_NBLD is not None  # because of collect_hidden
    valid_BL = batch.valid_BL & (batch.example_id_B != PADDING_EXAMPLE_ID)[:, None]
    total = jnp.float32(0.0)
    for place, site in enumerate(pruner.sites):
        site_params = jax.tree.map(lambda leaf, place=place: leaf[place], params["pruner"])
        fixed_BLD = jax.lax.stop_gradient(hidden_NBLD[site.layer - 1])
        token_logit_BL = score_tokens(pruner, site_params, fixed_BLD)
        score_BL = probabilities(
            SiteInput(token_logit_BL, batch.valid_BL, batch.valid_BL.astype(jnp.float32))
        )
        distance_BL = jnp.abs(score_BL - target_BJL[:, place])
        total += jnp.sum(distance_BL, where=valid_BL) / jnp.maximum(
            1.0, jnp.sum(valid_BL, dtype=jnp.float32)
        )
    return total, {"main": total}


def draw_actions(key, pruner: Pruner, batch: Batch, num_layers: int, *, is_guided) -> SamplingNoise:
    """Return the random numbers that decide the actions of one sample.

    Args:
      key: random key.
      pruner: TR-BERT.
      batch: with importance scores, where rows imitate them.
      num_layers: of the encoder.
      is_guided: bool scalar; all rows of the sample imitate the importance scores.
    """
    B, L = batch.valid_BL.shape
    guide_NBL, imitate_B = None, None
    if batch.importance_BJL is not None:
        guide_SBL = jnp.moveaxis(batch.importance_BJL, 1, 0)
        guide_NBL = params_of_layers(pruner, guide_SBL, num_layers)
        imitate_B = jnp.broadcast_to(is_guided, (B,))
    return SamplingNoise(jax.random.uniform(key, (num_layers, B, L)), guide_NBL, imitate_B)


def policy_objective(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    policy: PolicyConfig,
    *,
    key,
    share_done,
    dtype,
    head: Head = CLASSIFICATION,
    loop: ScanOptions = DEFAULT_SCAN,
):
    """Return the policy's loss, and metrics.

        r_k = - loss_k - alpha share_k;   b = mean_k r_k;   policy = mean_k (r_k - b) nll_k

    The difference is a constant for the gradient. nll_k belongs to the actions of sample k.

    Samples run under `vmap`, as many at a time as the config says. A step that trains the encoder
    with fewer at a time runs each forward pass twice, so that it holds the inner states of those
    samples alone. A step that trains the selectors alone holds their input states of all samples.

    Args:
      share_done: fraction of the phase's steps that are done, which ends the imitation.
    """
    is_guided = jnp.asarray(share_done < policy.imitation_ratio)

    def run(index):
        """Return the FLOPs speedup of one sample of the batch, and its losses."""
        draw_key, dropout_key = jax.random.split(jax.random.fold_in(key, index))
        noise = draw_actions(
            draw_key, pruner, batch, config.num_layers, is_guided=is_guided & (index == 0)
        )
        logits, trace = full_width.forward(
            params,
            config,
            pruner,
            batch,
            slope=jnp.float32(1.0),
            key=dropout_key,
            dtype=dtype,
            noise=noise,
            head=head,
            loop=loop,
        )
        losses = sample_losses(trace, pruner, batch, policy)
        task_B = head.loss_fn(logits, batch, policy.distil_coef)
        speedup = soft_speedup(params, config, pruner, trace, batch, head=head)
        losses = losses | {"task": weighted(task_B, batch, policy.class_weights)}
        if head.accuracy_fn is not None:
            losses["accuracy"] = head.accuracy_fn(logits, batch)
        return jax.lax.stop_gradient(speedup), losses

    at_once = policy.sample_batch_size or policy.num_samples
    if at_once < policy.num_samples and policy.task_coef:
        run = jax.checkpoint(run)
    speedup_K, found_KB = jax.lax.map(run, jnp.arange(policy.num_samples), batch_size=at_once)
    objective, numbers = combine(found_KB, batch, policy)
    return objective, numbers | {"flops_speedup": jnp.mean(speedup_K)}


def sample_losses(trace: Trace, pruner: Pruner, batch: Batch, policy: PolicyConfig) -> dict:
    """Return what the actions of one sample cost: {"share", "nll"}, float32 [B] each."""
    share_B = selected_fraction(
        trace,
        pruner.sites,
        batch.valid_BL,
        normalize_by_padded_length=policy.normalize_by_padded_length,
    )
    return {"share": share_B, "nll": action_losses(trace, pruner.sites, batch.valid_BL)}


def combine(found_KB: dict, batch: Batch, policy: PolicyConfig):
    """Return the objective of all samples, arrays [K, B]; padding examples do not count."""
    real_B = (batch.example_id_B != PADDING_EXAMPLE_ID).astype(jnp.float32)

    def mean(x_KB):
        return jnp.sum(x_KB * real_B[None]) / (len(x_KB) * jnp.maximum(1.0, jnp.sum(real_B)))

    reward_KB = -found_KB["task"] - policy.length_coef * found_KB["share"]
    advantage_KB = jax.lax.stop_gradient(reward_KB - jnp.mean(reward_KB, axis=0, keepdims=True))
    numbers = {name: mean(x_KB) for name, x_KB in found_KB.items()}
    numbers |= {"policy": mean(advantage_KB * found_KB["nll"]), "reward": mean(reward_KB)}
    numbers["main"] = numbers["policy"] + policy.task_coef * numbers["task"]
    return numbers["main"], numbers


def init_selector_state(params: Params, main, *, joint: bool) -> TrainState:
    """Return a state at step 0 that trains the selectors, alone or with the encoder."""
    trained, _ = _split(params, joint)
    return TrainState(jnp.zeros((), jnp.int32), params, main.init(trained), ())


def _split(params: Params, joint: bool) -> tuple[Params, Params]:
    """Return the trained parameters and the fixed ones; joint steps train all."""
    names = params.keys() if joint else {"pruner"}
    return {name: params[name] for name in names}, params


def make_selector_step(
    objective: Callable, main, *, joint: bool, controller: ThresholdController | None = None
) -> Callable:
    """Return a pure step function, as `steps.make_train_step` does.

    Args:
      objective: (params, batch, step, key) -> (scalar, metrics).
      main: optimizer.
      joint: train the encoder too; without it no gradient passes through the encoder.
      controller: moves the selectors by the batch's FLOPs speedup, after the update.
    """

    def step_fn(state: TrainState, batch: Batch, seed_key):
        key = jax.random.fold_in(seed_key, state.step)
        trained, params = _split(state.params, joint)

        def run(trained):
            return objective(params | trained, batch, state.step, key)

        grads, numbers = jax.grad(run, has_aux=True)(trained)
        updates, main_state = main.update(grads, state.main_state, trained)
        params = params | optax.apply_updates(trained, updates)
        if controller is not None:
            params = controller(params, numbers["flops_speedup"])
        return TrainState(state.step + 1, params, main_state, ()), numbers | {
            "grad_norm": optax.tree.norm(grads)
        }

    return step_fn
