"""One score for each option, from the state of [CLS]; a question's options are consecutive rows.

Letters of this file besides the key of `types.py`:

    G questions        O options of a question
"""

import functools

import jax.numpy as jnp

from adapler_jax.heads.base import Head, get_teacher_logits, soft_losses
from adapler_jax.heads.classification import classifier_flops, classify, init_classifier
from adapler_jax.types import Array, Batch


def choice_losses(logits_B1: Array, batch: Batch, distil_coef: float, *, num_options: int) -> Array:
    """Return the cross-entropy over the options of a question, float32 [B], on each of its rows."""
    logits_GO, label_GO = (x.reshape(-1, num_options) for x in (logits_B1, batch.label_B))
    teacher = get_teacher_logits(batch, distil_coef)
    teacher_GO = None if teacher is None else teacher.reshape(-1, num_options)
    loss_G = soft_losses(logits_GO, label_GO.astype(jnp.float32), teacher_GO, distil_coef)
    return jnp.repeat(loss_G, num_options)


def choice_accuracy(logits_B1: Array, batch: Batch, *, num_options: int) -> Array:
    """Return 1 on the rows of a question whose right option scores highest, float32 [B]."""
    best_G1 = jnp.argmax(logits_B1.reshape(-1, num_options), axis=-1, keepdims=True)
    right_G1 = jnp.take_along_axis(batch.label_B.reshape(-1, num_options), best_G1, axis=-1)
    return jnp.repeat(right_G1[:, 0], num_options).astype(jnp.float32)


def choice(num_options: int) -> Head:
    """Return the head that compares the options of a question.

    batch.label_B is 1 on the row of the right option, else 0. The rows of a batch are whole
    questions. Options with a yes or no each are plain classification of the rows.
    """
    return _choice(num_options)


# one object for equal arguments in any form, so that compiled programs are found again
@functools.cache
def _choice(num_options: int) -> Head:
    """Return the head of `choice`."""
    return Head(
        name="choice",
        needs_all_states=False,
        init=lambda key, config, num_classes: init_classifier(key, config, 1),
        apply=classify,
        loss_fn=functools.partial(choice_losses, num_options=num_options),
        target_logit=lambda logits_B1, batch: logits_B1[:, 0],
        accuracy_fn=functools.partial(choice_accuracy, num_options=num_options),
        flops=classifier_flops,
        logits_shape=lambda config, length, num_classes: (1,),
        factory_kwargs=(("num_options", num_options),),
    )
