"""The two objectives of a step, both from one forward pass.

    main       updates the weights:       task + contribution_coef * contribution
    speed-up   updates the thresholds:    task + length_coef * length

Source: AdapLeR, section 3 (two losses, two groups of parameters); `contribution` and `length` are the pruner's terms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adapler_jax import encoder, flops, full_width, heads
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import FILLER_ID, Batch, EncoderConfig, LayerLoop, Params, Trace


class LossConfig(NamedTuple):
    """Weights of the terms; hashable."""

    term_coefs: tuple[tuple[str, str, float], ...] = ()  # (objective "main" or "speedup", term, coefficient)
    distil_coef: float = 0.0  # share of the teacher's soft labels in the task loss, in [0, 1]


def task_losses(logits_BC, batch: Batch, distil_coef: float):
    """Cross-entropy of each example, float32 [B]: (1 - d) with the label + d with the teacher's probabilities."""
    log_prob_BC = jax.nn.log_softmax(logits_BC, axis=-1)
    label_BC = jax.nn.one_hot(batch.label_B, logits_BC.shape[-1], dtype=jnp.float32)
    if distil_coef > 0.0:
        teacher_BC = jax.nn.softmax(batch.teacher_logits_BC, axis=-1)
        label_BC = (1.0 - distil_coef) * label_BC + distil_coef * teacher_BC
    return -jnp.sum(label_BC * log_prob_BC, axis=-1)


def soft_speedup(params: Params, config: EncoderConfig, pruner: Pruner, trace: Trace, batch: Batch):
    """Dense over pruned operations of a batch by its soft counts, padding and fillers left out: float32 scalar."""
    sizes = {"num_classes": params["head"]["classifier"]["bias"].shape[-1]}
    length_B = jnp.sum(batch.live_BL, axis=-1, dtype=jnp.float32)
    dense_B = flops.dense_flops(config, length_B, **sizes)
    pruned_B = flops.pruned_flops(
        config, length_B, trace.count_NB, sites=pruner.sites, predictor_dim=flops.leaf_predictor_dim(params), **sizes
    )
    dense, pruned = (jnp.sum(x_B, where=batch.example_id_B != FILLER_ID) for x_B in (dense_B, pruned_B))
    return jnp.maximum(1.0, dense) / jnp.maximum(1.0, pruned)


def objectives(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, losses: LossConfig, *, slope, key,
               dtype, loop=LayerLoop()):  # fmt: skip
    """((main, speedup), {name: scalar}): both objectives of a batch, means over the examples that are no filler."""
    logits_BC, trace = full_width.forward(params, config, pruner, batch, slope=slope, key=key, dtype=dtype, loop=loop)
    real_B = (batch.example_id_B != FILLER_ID).astype(jnp.float32)
    num_real = jnp.maximum(1.0, jnp.sum(real_B))
    task = jnp.sum(task_losses(logits_BC, batch, losses.distil_coef) * real_B) / num_real
    terms = pruner.loss_terms(params["pruner"], trace, batch)
    totals = {"main": task, "speedup": task}
    for objective, term, coef in losses.term_coefs:
        totals[objective] = totals[objective] + coef * terms[term]
    correct_B = (jnp.argmax(logits_BC, axis=-1) == batch.label_B).astype(jnp.float32)
    numbers = {"task": task, **terms, **totals, "accuracy": jnp.sum(correct_B * real_B) / num_real}
    if pruner.sites:
        numbers["flops_speedup"] = soft_speedup(params, config, pruner, trace, batch)
    return (totals["main"], totals["speedup"]), numbers


def saliency(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, dtype=jnp.float32):
    """Gradient times input at the output of the embeddings, float32 [B, L], 0 on padding; and the logits [B, C].

        S_i = || d logit_y / d h_i * h_i ||_2        over the hidden dimension, y the true label, no dropout

    `pruner` should be keep_all: nothing is removed. dtype: of the operands of the encoder's products.
    Source: AdapLeR, section 3 (saliency of the fine-tuned model).
    """
    hidden_BLD = encoder.embed(params["encoder"]["embeddings"], config, batch.token_BL, batch.segment_BL)

    def true_logits(hidden_BLD):
        last_BLD, _, _ = full_width.run_layers(
            params, config, pruner, hidden_BLD, batch.live_BL, slope=None, key=None, dtype=dtype
        )
        logits_BC = heads.classify(params["head"], config, last_BLD[:, 0])
        return jnp.sum(jnp.take_along_axis(logits_BC, batch.label_B[:, None], axis=-1)), logits_BC

    gradient_BLD, logits_BC = jax.grad(true_logits, has_aux=True)(hidden_BLD)
    saliency_BL = jnp.linalg.norm(gradient_BLD * hidden_BLD, axis=-1)
    return jnp.where(batch.live_BL, saliency_BL, 0.0), logits_BC
