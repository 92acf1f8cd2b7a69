"""One or several numbers of a text or pair, from the state of [CLS]: ratings, or relevance.

N lists of documents               J documents of a list
"""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.heads.base import Head, get_teacher_logits, no_protected_tokens
from adapler_jax.heads.classification import classifier_flops, classify, init_classifier
from adapler_jax.heads.embedding import CLS
from adapler_jax.heads.pooling import with_pooling
from adapler_jax.types import Array, Batch

IDENTITY, SIGMOID = "identity", "sigmoid"
ACTIVATIONS = (IDENTITY, SIGMOID)  # from the logit to the number
# Of batch.head_slots.
NUMBERS = "number_BC"  # the numbers of a text, where there are several
LISTS = "list_B"  # int32, the list of a training pair; the rows of a list follow each other


def numbers_of(batch: Batch, num_outputs: int) -> Array:
    """Return the numbers that are right for each text, float32 [B, C].

    One number is in the batch's labels, and several are in its head slots.
    """
    if num_outputs == 1:
        return jnp.asarray(batch.label_B).astype(jnp.float32)[:, None]
    return jnp.asarray(batch.head_slots[NUMBERS]).astype(jnp.float32)


def regression_losses(
    logits_BC: Array, batch: Batch, distil_coef: float, *, activation: str
) -> Array:
    """Return the loss of each example, float32 [B].

        mean_c (1 - d) task_c + d (z_c - z_teacher_c)^2,   z_c the logit of output c

        task = (z - y)^2                                  without an activation
        task = -y log p - (1 - y) log(1 - p)              p = sigmoid(z), y in [0, 1]

    Args:
      logits_BC: z, float32.
      batch: with the numbers y, see `numbers_of`.
      distil_coef: d.
      activation: one of ACTIVATIONS.
    """
    target_BC = numbers_of(batch, logits_BC.shape[-1])
    if activation == SIGMOID:
        # softplus(z) - y z is the cross-entropy, without an overflow for large z
        loss_BC = jax.nn.softplus(logits_BC) - target_BC * logits_BC
    else:
        loss_BC = jnp.square(logits_BC - target_BC)
    teacher_BC = get_teacher_logits(batch, distil_coef)
    if teacher_BC is not None:
        soft_BC = jnp.square(logits_BC - teacher_BC)
        loss_BC = (1.0 - distil_coef) * loss_BC + distil_coef * soft_BC
    return jnp.mean(loss_BC, axis=-1)


def list_losses(logits_B1: Array, batch: Batch, distil_coef: float, *, size: int) -> Array:
    """Return the loss of each document's list, float32 [B].

        L = -sum_j ((1 - d) t_j + d s_j) log softmax(z)_j,   over the documents j of a list

        t_j = y_j / sum_k y_k          the labels; 0 in a list of padding examples
        s   = softmax(z_teacher)

    Args:
      logits_B1: z, float32.
      batch: consecutive rows are the documents of a list, with relevance y from 0.
      distil_coef: d.
      size: documents of a list.

    Source: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007,
      ListNet; there t is a softmax too.
    """
    logits_NJ = logits_B1.reshape(-1, size)
    gain_NJ = jnp.asarray(batch.label_B).astype(jnp.float32).reshape(-1, size)
    total_N1 = jnp.sum(gain_NJ, axis=-1, keepdims=True)
    target_NJ = gain_NJ / jnp.where(total_N1 > 0, total_N1, 1.0)
    teacher_B1 = get_teacher_logits(batch, distil_coef)
    if teacher_B1 is not None:
        soft_NJ = jax.nn.softmax(jnp.asarray(teacher_B1).reshape(-1, size), axis=-1)
        target_NJ = (1.0 - distil_coef) * target_NJ + distil_coef * soft_NJ
    loss_N = -jnp.sum(target_NJ * jax.nn.log_softmax(logits_NJ, axis=-1), axis=-1)
    return jnp.repeat(loss_N, size)


@functools.cache
def with_list_loss(head: Head, size: int) -> Head:
    """Return a head of one number whose loss is `list_losses` where batches have LISTS."""

    def losses(logits_B1: Array, batch: Batch, distil_coef: float) -> Array:
        """Return the loss of each example, float32 [B]."""
        if LISTS in (batch.head_slots or {}):
            return list_losses(logits_B1, batch, distil_coef, size=size)
        return head.loss_fn(logits_B1, batch, distil_coef)

    return head._replace(loss_fn=losses)


def apply_activation(logit_X: Array, activation: str) -> Array:
    """Return the numbers of logits, float32 of the same shape."""
    return jax.nn.sigmoid(logit_X) if activation == SIGMOID else logit_X


def saliency_logit(logits_BC: Array, batch: Batch) -> Array:
    """Return the logit, or 1/C sum_c |z_c| of several outputs, float32 [B].

    Its gradient is saliency, and AdapLeR's paper has classification alone. Saliency takes absolute
    values, so for one output z and |z| are equal. The mean counts each output's gradient in full.
    The norm of z, as for vectors, would leave out the outputs whose numbers are near 0.
    """
    del batch
    if logits_BC.shape[-1] == 1:
        return logits_BC[:, 0]
    return jnp.mean(jnp.abs(logits_BC), axis=-1)


def protect_first_text(batch: Batch) -> Array:
    """Return the tokens of the first text with [CLS] and its [SEP], bool [B, L]."""
    return batch.valid_BL & (batch.segment_BL == 0)


def regression(
    activation: str = IDENTITY,
    protects_query: bool = False,
    num_outputs: int = 1,
    pooling: str = CLS,
) -> Head:
    """Return the head for one number, or for several with a name each.

    Args:
      activation: from a logit to its number: "identity", or "sigmoid" for numbers in [0, 1].
      protects_query: the tokens of a pair's first text, segment 0, are never dropped.
      num_outputs: numbers of a text.
      pooling: the state that the number is of: "cls", or the "mean" of the tokens that are left.

    Raises:
      ValueError: there is no such activation or pooling, or no output.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r:.60}; expected {' or '.join(ACTIVATIONS)}")
    if type(num_outputs) is not int or num_outputs < 1:
        raise ValueError(f"num_outputs is {num_outputs!r:.60}; expected a number from 1")
    return with_pooling(_regression(activation, protects_query, num_outputs), pooling)


# one object for equal arguments in any form, so that compiled programs are found again
@functools.cache
def _regression(activation: str, protects_query: bool, num_outputs: int) -> Head:
    """Return the head of `regression`."""
    kwargs: tuple = (("activation", activation), ("protects_query", protects_query))
    if num_outputs > 1:
        kwargs += (("num_outputs", num_outputs),)
    return Head(
        name="regression",
        needs_all_states=False,
        has_classes=num_outputs > 1,
        init=lambda key, config, num_classes: init_classifier(key, config, num_outputs),
        apply=classify,
        loss_fn=functools.partial(regression_losses, activation=activation),
        target_logit=saliency_logit,
        accuracy_fn=None,
        flops=classifier_flops,
        logits_shape=lambda config, length, num_classes: (num_outputs,),
        protected_tokens=protect_first_text if protects_query else no_protected_tokens,
        factory_kwargs=kwargs,
    )
