"""The head: a record of pure functions of what reads the last states, is trained by them, and is scored."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adapler_jax.types import Batch, EncoderConfig, Params


def no_protected_tokens(batch: Batch) -> None:
    """The tokens that may not be dropped for the sake of a head that reads none by name."""


class Head(NamedTuple):
    """What is done with the last states. Logits are an array, or a dict of arrays, float32, with a leading axis B."""

    name: str
    needs_all_states: (
        bool  # the last state of every token, wherever it was dropped; else that of [CLS] alone
    )
    # (key, EncoderConfig, number of classes where the task has any) -> params
    init: Callable[[Any, EncoderConfig, int], Params]
    # (params, EncoderConfig, states [B, D] or [B, L, D], Batch, dropout key or None) -> logits
    apply: Callable
    # (logits, Batch, distil_coef) -> float32 [B]: (1 - d) of the loss by the labels, d of that by the teacher's logits
    loss_fn: Callable
    # (logits, Batch) -> float32 [B]: the logit of the right answer
    target_logit: Callable
    # (logits, Batch) -> float32 [B]: 1 where the answer with the highest logits is right
    accuracy_fn: Callable
    # (params, EncoderConfig, tokens of each example) -> operations of each
    flops: Callable
    # (EncoderConfig, token slots, number of classes) -> shape of the logits of one example
    logits_shape: Callable
    # Batch -> bool [B, L]: tokens that may not be dropped because the head reads them by name; None for none
    protected_tokens: Callable[[Batch], jax.Array | None] = no_protected_tokens
    factory_kwargs: tuple[
        tuple[str, Any], ...
    ] = ()  # keywords of the factory that make this head again from a saved model


def zero_empty_rows(logits, has_B):
    """The logits, 0 for rows without a token: nothing was read there, and no gradient comes from there.

    Args: logits: as a head gives them. has_B: bool, whether a row has a token.
    """

    def of_rows(logits_BX):
        return jnp.where(has_B.reshape(-1, *(1,) * (logits_BX.ndim - 1)), logits_BX, 0.0)

    return jax.tree.map(of_rows, logits)


def slot_mask(slot_BX, length: int):
    """Whether a token is at one of the slots, bool [B, L]; -1 is none. slot_BX: int32 [B, ...]."""
    slot_BX1 = slot_BX.reshape(len(slot_BX), -1, 1)
    return jnp.any(slot_BX1 == jnp.arange(length, dtype=jnp.int32)[None, None], axis=1)


def gather_states(exit_hidden_BLD, slot_BX):
    """The states of the tokens at the slots, [B, X, D]; that of [CLS] for -1."""
    return jnp.take_along_axis(exit_hidden_BLD, jnp.maximum(slot_BX, 0)[..., None], axis=1)


def soft_losses(logits_BX, target_BX, teacher_BX, distil_coef: float):
    """Cross-entropy of each example over the last axis with (1 - d) target + d softmax(teacher): float32 [B].

    target_BX: probabilities. Source: Ye et al., "TR-BERT", NAACL 2021: temperature 1, no factor.
    """
    log_prob_BX = jax.nn.log_softmax(logits_BX, axis=-1)
    if distil_coef > 0.0:
        target_BX = (1.0 - distil_coef) * target_BX + distil_coef * jax.nn.softmax(
            teacher_BX, axis=-1
        )
    return -jnp.sum(target_BX * log_prob_BX, axis=-1)


def get_teacher_logits(batch: Batch, distil_coef: float):
    """The teacher's logits, where any are needed."""
    return batch.teacher_logits if distil_coef > 0.0 else None
