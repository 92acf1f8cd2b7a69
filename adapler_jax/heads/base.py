"""The head: a record of pure functions that read the last states, train on them and score them."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from adapler_jax.types import Array, Batch, EncoderConfig, OptionalArray, Params

Logits = Any  # an array, or a dict of arrays, float32, with a leading axis B


class ApplyFn(Protocol):
    """Return the logits of a batch, float32."""

    def __call__(
        self,
        params: Params,
        config: EncoderConfig,
        states: Array,
        batch: Any,
        key: Array | None = None,
        /,
    ) -> Logits:
        """Return the logits.

        Args:
          params: the head's subtree.
          config: of the encoder.
          states: last states of all tokens [B, L, D] where the head needs all, else of [CLS] [B,
            D].
          batch: the examples; None where the head does not need them.
          key: dropout key; None switches dropout off.
        """


class LossFn(Protocol):
    """Return the loss of each example, float32 [B]."""

    def __call__(self, logits: Logits, batch: Batch, distil_coef: float, /) -> Array:
        """Return (1 - d) of the loss by the labels plus d of the loss by the teacher's logits."""


class HeadFlopsFn(Protocol):
    """Return the operations of each example."""

    def __call__(self, params: Params, config: EncoderConfig, length_B: Any, /) -> Any:
        """Return the operations for these numbers of tokens."""


def no_protected_tokens(batch: Batch) -> None:
    """Return no protected tokens, for heads that use none by its slot."""
    del batch


class Head(NamedTuple):
    """A use of the last states. All functions are pure."""

    name: str
    # The last state of every token, wherever it was dropped; else the last state of [CLS] alone.
    needs_all_states: bool
    # (key, EncoderConfig, number of classes where the task has any) -> params
    init: Callable[[Array, EncoderConfig, int], Params]
    apply: ApplyFn
    loss_fn: LossFn
    target_logit: Callable[[Logits, Batch], Array]  # float32 [B]: the logit of the right answer
    # float32 [B]: 1 where the best answer is right; None for heads of numbers or vectors
    accuracy_fn: Callable[[Logits, Batch], Array] | None
    flops: HeadFlopsFn
    # (EncoderConfig, token slots, number of classes) -> shape of the logits of one example
    logits_shape: Callable[[EncoderConfig, int, int], Any]
    # bool [B, L]: tokens that stay because the head uses them by their slots; None for none
    protected_tokens: Callable[[Batch], Array | None] = no_protected_tokens
    has_classes: bool = False  # a logit for each named class, or for each of several numbers
    factory_kwargs: tuple[tuple[str, Any], ...] = ()  # keywords that a saved model needs

    def flops_options(self, params: Params, config: EncoderConfig, length: Any) -> dict[str, Any]:
        """Return the keywords of `model_flops.dense_flops` and `pruned_flops` for this head.

        Args:
          params: of the whole model.
          config: of the encoder.
          length: tokens of each example.
        """
        spent = self.flops(params["head"], config, length)
        return {"head": spent, "reads_first": not self.needs_all_states}


def zero_empty_rows(logits: Logits, has_token_B: Array) -> Logits:
    """Return the logits, 0 and without a gradient for rows without a token.

    Args:
      logits: of a head.
      has_token_B: bool.
    """

    def zero_rows(logits_BX):
        """Return one array of logits with zeros."""
        has_token_BX = has_token_B.reshape(-1, *(1,) * (logits_BX.ndim - 1))
        return jnp.where(has_token_BX, logits_BX, 0.0)

    return jax.tree.map(zero_rows, logits)


def slot_mask(slot_BX: Array, length: int) -> Array:
    """Return the tokens at the slots, bool [B, L]; slots are int32 [B, ...], -1 for none."""
    slot_BX1 = slot_BX.reshape(len(slot_BX), -1, 1)
    return jnp.any(slot_BX1 == jnp.arange(length, dtype=jnp.int32)[None, None], axis=1)


def gather_states(exit_hidden_BLD: Array, slot_BX: Array) -> Array:
    """Return the states of the tokens at the slots, [B, X, D]; the state of [CLS] for -1."""
    return jnp.take_along_axis(exit_hidden_BLD, jnp.maximum(slot_BX, 0)[..., None], axis=1)


def soft_losses(
    logits_BX: Array, target_BX: Array, teacher_BX: OptionalArray, distil_coef: float
) -> Array:
    """Return the cross-entropy of each example over the last axis, float32 [B].

    The target is (1 - d) target + d softmax(teacher).

    Args:
      logits_BX: float32.
      target_BX: probabilities.
      teacher_BX: logits; not used where d is 0.
      distil_coef: d.

    Source: Ye et al., "TR-BERT", NAACL 2021: temperature 1, no factor.
    """
    log_prob_BX = jax.nn.log_softmax(logits_BX, axis=-1)
    if distil_coef > 0.0:
        teacher_prob_BX = jax.nn.softmax(teacher_BX, axis=-1)
        target_BX = (1.0 - distil_coef) * target_BX + distil_coef * teacher_prob_BX
    return -jnp.sum(target_BX * log_prob_BX, axis=-1)


def get_teacher_logits(batch: Batch, distil_coef: float) -> Logits | None:
    """Return the teacher's logits where the loss needs them, else None."""
    return batch.teacher_logits if distil_coef > 0.0 else None
