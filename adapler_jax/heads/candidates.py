"""One score for each candidate, from the last state of the marker before it (WikiHop).

Letters of this file besides the key of `types.py`:

    A candidates of a row
"""

import functools

import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.heads.base import (
    Head,
    gather_states,
    get_teacher_logits,
    no_protected_tokens,
    slot_mask,
    soft_losses,
)
from adapler_jax.heads.classification import class_accuracy, label_logit
from adapler_jax.nn import init_linear, linear
from adapler_jax.types import MASK_BIAS, Array, Batch, EncoderConfig, Params


def init_candidates(key: Array, config: EncoderConfig, num_classes: int = 0) -> Params:
    """Return a fresh linear map (D, 1)."""
    del num_classes
    return {"candidate": init_linear(key, (config.hidden_dim, 1), config.init_std)}


def score_candidates(
    params: Params,
    config: EncoderConfig,
    exit_hidden_BLD: Array,
    batch: Batch,
    key: Array | None = None,
) -> Array:
    """Return logits float32 [B, A] of the candidates, MASK_BIAS in empty slots. No dropout.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    del config, key
    marker_BA = batch.head_slots["marker_BK"]
    logits_BA = linear(params["candidate"], gather_states(exit_hidden_BLD, marker_BA))[..., 0]
    return jnp.where(marker_BA >= 0, logits_BA, MASK_BIAS)


def candidate_losses(logits_BA: Array, batch: Batch, distil_coef: float) -> Array:
    """Return the cross-entropy over a row's candidates, float32 [B].

    It is (1 - d) with the label plus d with the teacher's probabilities. Rows of one question train
    apart; the scores of a question are the means over its rows.
    """
    marker_BA = batch.head_slots["marker_BK"]
    teacher_BA = get_teacher_logits(batch, distil_coef)
    if teacher_BA is not None:
        teacher_BA = jnp.where(marker_BA >= 0, teacher_BA, MASK_BIAS)
    candidate_1A = jnp.arange(marker_BA.shape[1], dtype=jnp.int32)[None]
    is_right_BA = (batch.label_B[:, None] == candidate_1A).astype(jnp.float32)
    return soft_losses(logits_BA, is_right_BA, teacher_BA, distil_coef)


def protect_markers(batch: Batch) -> Array:
    """Return the candidates' markers, bool [B, L]."""
    return slot_mask(batch.head_slots["marker_BK"], batch.valid_BL.shape[1])


def candidates(num_candidates: int, protects: bool = True) -> Head:
    """Return the head that compares the candidates of an answer.

    batch.label_B is the index of the right one. batch.head_slots["marker_BK"] holds the slots of
    the candidates' markers, -1 for none.

    Args:
      num_candidates: slots for candidates.
      protects: no marker is dropped. False is the released program: the policy may drop a marker,
        and its state at that layer is scored.
    """
    return _candidates(num_candidates, protects)


# one object for equal arguments in any form, so that compiled programs are found again
@functools.cache
def _candidates(num_candidates: int, protects: bool) -> Head:
    """Return the head of `candidates`."""
    return Head(
        name="candidates",
        needs_all_states=True,
        init=init_candidates,
        apply=score_candidates,
        loss_fn=candidate_losses,
        target_logit=label_logit,
        accuracy_fn=class_accuracy,
        flops=lambda params, config, length_B: (
            num_candidates * flops.linear_flops(config.hidden_dim, 1)
        ),
        logits_shape=lambda config, length, num_classes: (num_candidates,),
        protected_tokens=protect_markers if protects else no_protected_tokens,
        factory_kwargs=(("num_candidates", num_candidates), ("protects", protects)),
    )
