"""Compute the two objectives of a step, both from one forward pass.

    main       updates the weights:       task + kl_coef * contribution
    speed-up   updates the thresholds:    task + length_coef * length

`contribution` and `length` are the pruner's terms.

Source: AdapLeR, section 3 (two losses, two groups of parameters).
"""

from typing import NamedTuple

import jax.numpy as jnp

from adapler_jax import forward as full_width
from adapler_jax import model_flops
from adapler_jax.evaluation.attribution import input_saliency
from adapler_jax.forward import DEFAULT_SCAN
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig, Params, ScanOptions, Trace


class LossConfig(NamedTuple):
    """Weights of the terms; hashable."""

    term_coefs: tuple[
        tuple[str, str, float], ...
    ] = ()  # (objective "main" or "speedup", term, coefficient)
    distil_coef: float = 0.0  # share of the teacher's soft labels in the task loss, in [0, 1]
    class_weights: tuple[float, ...] = ()  # of an example's task loss, by its label; none: 1
    dense_config: EncoderConfig | None = None  # that speedups are over; None: the trained encoder


NO_TERMS = LossConfig()


def soft_speedup(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    trace: Trace,
    batch: Batch,
    *,
    head: Head,
    dense_config: EncoderConfig | None = None,
):
    """Return dense over pruned operations of a batch by its soft counts, float32 scalar.

    Padding and padding examples do not count. `dense_config` is of the dense encoder; None for
    `config`.
    """
    length_B = jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.float32)
    options = head.flops_options(params, config, length_B)
    dense_B = model_flops.dense_flops(dense_config or config, length_B, **options)
    pruned_B = model_flops.pruned_flops(config, pruner, params, length_B, trace.count_NB, **options)
    dense, pruned = (
        jnp.sum(x_B, where=batch.example_id_B != PADDING_EXAMPLE_ID) for x_B in (dense_B, pruned_B)
    )
    return jnp.maximum(1.0, dense) / jnp.maximum(1.0, pruned)


def weighted(loss_B, batch: Batch, class_weights: tuple[float, ...]):
    """Return the losses times the weights of their classes, float32 [B]."""
    return (
        loss_B * jnp.array(class_weights, jnp.float32)[batch.label_B] if class_weights else loss_B
    )


def compute_losses(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    losses: LossConfig,
    *,
    slope,
    key,
    dtype,
    head: Head = CLASSIFICATION,
    loop: ScanOptions = DEFAULT_SCAN,
):
    """Compute both objectives of a batch, means over its real examples.

    Returns:
      (main, speed-up) and {name: scalar}.
    """
    logits, trace = full_width.forward(
        params, config, pruner, batch, slope=slope, key=key, dtype=dtype, head=head, loop=loop
    )
    real_B = (batch.example_id_B != PADDING_EXAMPLE_ID).astype(jnp.float32)
    num_real = jnp.maximum(1.0, jnp.sum(real_B))
    task_B = weighted(head.loss_fn(logits, batch, losses.distil_coef), batch, losses.class_weights)
    task = jnp.sum(task_B * real_B) / num_real
    terms = pruner.loss_terms(params["pruner"], trace, batch)
    totals = {"main": task, "speedup": task}
    for objective, term, coef in losses.term_coefs:
        totals[objective] = totals[objective] + coef * terms[term]
    numbers = {"task": task, **terms, **totals}
    if head.accuracy_fn is not None:
        numbers["accuracy"] = jnp.sum(head.accuracy_fn(logits, batch) * real_B) / num_real
    if pruner.sites:
        numbers["flops_speedup"] = soft_speedup(
            params, config, pruner, trace, batch, head=head, dense_config=losses.dense_config
        )
    return (totals["main"], totals["speedup"]), numbers


def saliency(
    params: Params,
    config: EncoderConfig,
    batch: Batch,
    *,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
):
    """Return gradient times input for the true label, and the logits, as `input_saliency` does.

    For heads other than of classes the logit is their `target_logit`, which is our choice.

    Source: AdapLeR, section 3.
    """
    return input_saliency(params, config, batch, target=head.target_logit, dtype=dtype, head=head)
