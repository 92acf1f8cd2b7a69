"""Several labels of a text, each with a yes or no of its own, from the state of [CLS]."""

import jax
import jax.numpy as jnp

from adapler_jax.heads.base import Head, get_teacher_logits
from adapler_jax.heads.classification import classifier_flops, classify, init_classifier
from adapler_jax.types import Array, Batch

LABELS = "label_BC"  # of batch.head_slots: 1 for a label of the text, 0 for others


def labels_of(batch: Batch) -> Array:
    """Return 1 for the labels of each text and 0 for others, float32 [B, C].

    Padding examples have -1 in the batch; here they have no label.
    """
    return jnp.maximum(batch.head_slots[LABELS], 0).astype(jnp.float32)


def label_losses(logits_BC: Array, batch: Batch, distil_coef: float) -> Array:
    """Return the mean cross-entropy of a text's labels, float32 [B].

        1/C sum_c -t_c log p_c - (1 - t_c) log(1 - p_c),   p = sigmoid(z)

        t = (1 - d) y + d sigmoid(z_teacher)

    Args:
      logits_BC: z, float32.
      batch: with the labels y.
      distil_coef: d.
    """
    target_BC = labels_of(batch)
    teacher_BC = get_teacher_logits(batch, distil_coef)
    if teacher_BC is not None:
        target_BC = (1.0 - distil_coef) * target_BC + distil_coef * jax.nn.sigmoid(teacher_BC)
    # softplus(z) - t z is the cross-entropy, without an overflow for large z
    return jnp.mean(jax.nn.softplus(logits_BC) - target_BC * logits_BC, axis=-1)


def label_margin(logits_BC: Array, batch: Batch) -> Array:
    """Return 1/C sum_c (2 y_c - 1) z_c, float32 [B], which grows with every right answer.

    Its gradient is saliency. This is our choice.
    """
    return jnp.mean((2.0 * labels_of(batch) - 1.0) * logits_BC, axis=-1)


def label_accuracy(logits_BC: Array, batch: Batch) -> Array:
    """Return 1 where all labels with a probability of 1/2 or more are the text's, float32 [B]."""
    is_right_BC = (logits_BC >= 0.0) == (labels_of(batch) > 0.5)
    return jnp.all(is_right_BC, axis=-1).astype(jnp.float32)


MULTI_LABEL = Head(
    name="multi_label",
    needs_all_states=False,
    has_classes=True,
    init=init_classifier,
    apply=classify,
    loss_fn=label_losses,
    target_logit=label_margin,
    accuracy_fn=label_accuracy,
    flops=classifier_flops,
    logits_shape=lambda config, length, num_classes: (num_classes,),
)
