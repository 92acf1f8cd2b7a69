"""One score a candidate, read off the marker in front of it, wherever that was dropped (WikiHop)."""

import functools

import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.encoders.bert import init_linear, linear
from adapler_jax.heads.base import (
    Head,
    gather_states,
    get_teacher_logits,
    no_protected_tokens,
    slot_mask,
    soft_losses,
)
from adapler_jax.heads.classification import best_class, class_gold
from adapler_jax.types import MASK_BIAS, Batch, EncoderConfig, Params


def init_candidates(key, config: EncoderConfig, num_classes: int = 0) -> Params:
    """A fresh linear (D, 1)."""
    return {"candidate": init_linear(key, (config.hidden_dim, 1), config.init_std)}


def read_candidates(params: Params, config: EncoderConfig, exit_hidden_BLD, batch: Batch, key=None):
    """Logits float32 [B, K] of the candidates in head_slots["marker_BK"]; MASK_BIAS where there is none. No dropout.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    marker_BK = batch.head_slots["marker_BK"]
    logits_BK = linear(params["candidate"], gather_states(exit_hidden_BLD, marker_BK))[..., 0]
    return jnp.where(marker_BK >= 0, logits_BK, MASK_BIAS)


def candidate_losses(logits_BK, batch: Batch, distil_coef: float):
    """Cross-entropy over a row's candidates, float32 [B]: (1 - d) with the label + d with the teacher's probabilities.

    Rows of one question are trained apart; the scores of a question are the means over its rows.
    """
    marker_BK = batch.head_slots["marker_BK"]
    teacher_BK = get_teacher_logits(batch, distil_coef)
    if teacher_BK is not None:
        teacher_BK = jnp.where(marker_BK >= 0, teacher_BK, MASK_BIAS)
    is_gold_BK = batch.label_B[:, None] == jnp.arange(marker_BK.shape[1], dtype=jnp.int32)[None]
    return soft_losses(logits_BK, is_gold_BK.astype(jnp.float32), teacher_BK, distil_coef)


def protect_markers(batch: Batch):
    """The candidates' markers, bool [B, L]."""
    return slot_mask(batch.head_slots["marker_BK"], batch.valid_BL.shape[1])


def candidates(num_candidates: int, protects: bool = True) -> Head:
    """Candidates of an answer against each other. batch.label_B is the index of the right one, batch.head_slots["marker_BK"]
    the slots of their markers, K = num_candidates, -1 for fillers. protects: no marker is dropped; where False the
    policy may remove them, as in the released program, and the state in which one was dropped is scored."""
    return _candidates(num_candidates, protects)


@functools.cache  # one object for equal arguments, however they are passed, so that compiled programs are found again
def _candidates(num_candidates: int, protects: bool) -> Head:
    return Head(
        name="candidates",
        needs_all_states=True,
        init=init_candidates,
        apply=read_candidates,
        loss_fn=candidate_losses,
        target_logit=class_gold,
        accuracy_fn=best_class,
        flops=lambda params, config, length_B: (
            num_candidates * flops.linear_flops(config.hidden_dim, 1)
        ),
        logits_shape=lambda config, length, num_classes: (num_candidates,),
        protected_tokens=protect_markers if protects else no_protected_tokens,
        factory_kwargs=(("num_candidates", num_candidates), ("protects", protects)),
    )
