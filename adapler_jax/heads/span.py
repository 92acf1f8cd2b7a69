"""The first and the last token of an answer, read off the last state of every token, wherever it was dropped."""

import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.encoders.bert import init_linear, linear
from adapler_jax.heads.base import Head, get_teacher_logits, soft_losses
from adapler_jax.types import MASK_BIAS, Batch, EncoderConfig, Params


def init_span(key, config: EncoderConfig, num_classes: int = 0) -> Params:
    """A fresh linear (D, 2)."""
    return {"span": init_linear(key, (config.hidden_dim, 2), config.init_std)}


def read_span(params: Params, config: EncoderConfig, exit_hidden_BLD, batch: Batch, key=None):
    """Logits float32 [B, L, 2] of each token as the first and the last of the answer; MASK_BIAS on padding.

    [CLS] stands for "no answer". No dropout, as in published BERTs. Source: Devlin et al., "BERT", section 4.2.
    """
    return jnp.where(batch.valid_BL[..., None], linear(params["span"], exit_hidden_BLD), MASK_BIAS)


def accepted_ends(span_BA2, length: int):
    """Which tokens begin and which end an accepted answer: bool [B, L, 2]. A token counts once, however many answers
    it begins. span_BA2: int32 slots of first and last tokens, -1 for fillers."""
    return jnp.any(span_BA2[:, :, None] == jnp.arange(length)[None, None, :, None], axis=1)


def span_losses(logits_BL2, batch: Batch, distil_coef: float):
    """Mean of the losses of first and last token, float32 [B].

        loss = 1/2 sum_{e in first, last} - log sum_{i accepted} softmax(logits_e)_i

    With a teacher, d of its soft cross-entropy in place of d of that. The released program of TR-BERT takes half the
    sum with labels and the whole sum with a teacher, so that its alpha means two things.
    Source: BERT for one accepted answer; Clark and Gardner, ACL 2018, section 2.2, for several.
    """
    log_prob_BL2 = logits_BL2 - logsumexp(logits_BL2)
    accepted_BL2 = accepted_ends(batch.head_slots["span_BA2"], logits_BL2.shape[1])
    hard_B2 = -logsumexp(jnp.where(accepted_BL2, log_prob_BL2, MASK_BIAS))[:, 0]
    loss_B = (1.0 - distil_coef) * jnp.mean(hard_B2, axis=-1)
    if distil_coef > 0.0:
        ends = (
            jnp.moveaxis(x_BL2, 2, 1)
            for x_BL2 in (logits_BL2, get_teacher_logits(batch, distil_coef))
        )
        logits_B2L, teacher_B2L = ends
        teacher_B2L = jnp.where(batch.valid_BL[:, None], teacher_B2L, MASK_BIAS)
        soft_B2 = soft_losses(logits_B2L, jnp.zeros_like(logits_B2L), teacher_B2L, 1.0)
        loss_B = loss_B + distil_coef * jnp.mean(soft_B2, axis=-1)
    return loss_B


def logsumexp(x_BL2):
    """log sum exp over the tokens, float32 [B, 1, 2]."""
    highest_B12 = jnp.max(x_BL2, axis=1, keepdims=True)
    return highest_B12 + jnp.log(jnp.sum(jnp.exp(x_BL2 - highest_B12), axis=1, keepdims=True))


def gold_logits(logits_BL2, batch: Batch):
    """The logit of the first accepted answer's first token plus that of its last one, float32 [B]: what saliency is
    the gradient of. Ours: AdapLeR's paper has classification alone."""
    first_B12 = batch.head_slots["span_BA2"][:, :1]
    return jnp.sum(jnp.take_along_axis(logits_BL2, jnp.maximum(first_B12, 0), axis=1), axis=(1, 2))


def span_correct(logits_BL2, batch: Batch):
    """1 where both likeliest ends belong to accepted answers, float32 [B]."""
    accepted_BL2 = accepted_ends(batch.head_slots["span_BA2"], logits_BL2.shape[1])
    best_B12 = jnp.argmax(logits_BL2, axis=1, keepdims=True)
    return jnp.all(jnp.take_along_axis(accepted_BL2, best_B12, axis=1), axis=(1, 2)).astype(
        jnp.float32
    )


SPAN = Head(
    name="span",
    needs_all_states=True,
    init=init_span,
    apply=read_span,
    loss_fn=span_losses,
    target_logit=gold_logits,
    accuracy_fn=span_correct,
    flops=lambda params, config, length_B: length_B * flops.linear_flops(config.hidden_dim, 2),
    logits_shape=lambda config, length, num_classes: (length, 2),
)
