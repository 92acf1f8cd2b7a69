"""One number of a text or pair, from the state of [CLS]: a rating, or a reranker's relevance."""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.heads.base import Head, get_teacher_logits, no_protected_tokens
from adapler_jax.heads.classification import classifier_flops, classify, init_classifier
from adapler_jax.types import Array, Batch

IDENTITY, SIGMOID = "identity", "sigmoid"
ACTIVATIONS = (IDENTITY, SIGMOID)  # from the logit to the number


def regression_losses(
    logits_B1: Array, batch: Batch, distil_coef: float, *, activation: str
) -> Array:
    """Return the loss of each example, float32 [B].

        (1 - d) task + d (z - z_teacher)^2,   z the logit

        task = (z - y)^2                                  without an activation
        task = -y log p - (1 - y) log(1 - p)              p = sigmoid(z), y in [0, 1]

    Args:
      logits_B1: z, float32.
      batch: with the numbers y as labels, float32 or int32.
      distil_coef: d.
      activation: one of ACTIVATIONS.
    """
    logit_B, target_B = logits_B1[:, 0], jnp.asarray(batch.label_B).astype(jnp.float32)
    if activation == SIGMOID:
        # softplus(z) - y z is the cross-entropy, without an overflow for large z
        loss_B = jax.nn.softplus(logit_B) - target_B * logit_B
    else:
        loss_B = jnp.square(logit_B - target_B)
    teacher_B1 = get_teacher_logits(batch, distil_coef)
    if teacher_B1 is None:
        return loss_B
    soft_B = jnp.square(logit_B - teacher_B1[:, 0])
    return (1.0 - distil_coef) * loss_B + distil_coef * soft_B


def regression_accuracy(logits_B1: Array, batch: Batch, *, activation: str) -> Array:
    """Return 1 where the number is right when both are rounded, float32 [B]."""
    target_B = jnp.asarray(batch.label_B).astype(jnp.float32)
    found_B = apply_activation(logits_B1[:, 0], activation)
    return (jnp.round(found_B) == jnp.round(target_B)).astype(jnp.float32)


def apply_activation(logit_X: Array, activation: str) -> Array:
    """Return the numbers of logits, float32 of the same shape."""
    return jax.nn.sigmoid(logit_X) if activation == SIGMOID else logit_X


def protect_first_text(batch: Batch) -> Array:
    """Return the tokens of the first text with [CLS] and its [SEP], bool [B, L]."""
    return batch.valid_BL & (batch.segment_BL == 0)


def regression(activation: str = IDENTITY, protects_query: bool = False) -> Head:
    """Return the head for one number.

    Args:
      activation: from the logit to the number: "identity", or "sigmoid" for numbers in [0, 1].
      protects_query: the tokens of a pair's first text, segment 0, are never dropped.

    Raises:
      ValueError: there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r:.60}; expected {' or '.join(ACTIVATIONS)}")
    return _regression(activation, protects_query)


# one object for equal arguments in any form, so that compiled programs are found again
@functools.cache
def _regression(activation: str, protects_query: bool) -> Head:
    """Return the head of `regression`."""
    return Head(
        name="regression",
        needs_all_states=False,
        init=lambda key, config, num_classes: init_classifier(key, config, 1),
        apply=classify,
        loss_fn=functools.partial(regression_losses, activation=activation),
        target_logit=lambda logits_B1, batch: logits_B1[:, 0],
        accuracy_fn=functools.partial(regression_accuracy, activation=activation),
        flops=classifier_flops,
        logits_shape=lambda config, length, num_classes: (1,),
        protected_tokens=protect_first_text if protects_query else no_protected_tokens,
        factory_kwargs=(("activation", activation), ("protects_query", protects_query)),
    )
