"""The first and the last token of an answer, from the last state of every token.

Letters of this file besides the key of `types.py`:

    A accepted answers
"""

import jax
import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.heads.base import Head, get_teacher_logits, soft_losses
from adapler_jax.nn import init_linear, linear
from adapler_jax.types import MASK_BIAS, Array, Batch, EncoderConfig, Params


def init_span(key: Array, config: EncoderConfig, num_classes: int = 0) -> Params:
    """Return a fresh linear map (D, 2)."""
    del num_classes
    return {"span": init_linear(key, (config.hidden_dim, 2), config.init_std)}


def score_ends(
    params: Params,
    config: EncoderConfig,
    exit_hidden_BLD: Array,
    batch: Batch,
    key: Array | None = None,
) -> Array:
    """Return logits float32 [B, L, 2] of each token as first and last of the answer.

    Padding has MASK_BIAS. [CLS] means "no answer". No dropout, as in published BERTs. Source:
    Devlin et al., "BERT", section 4.2.
    """
    del config, key
    return jnp.where(batch.valid_BL[..., None], linear(params["span"], exit_hidden_BLD), MASK_BIAS)


def accepted_ends(span_BA2: Array, length: int) -> Array:
    """Return the tokens that begin, and that end, an accepted answer: bool [B, L, 2].

    A token counts once, however many answers it begins.

    Args:
      span_BA2: int32 slots of first and last tokens, -1 for none.
      length: token slots L.
    """
    slot_L = jnp.arange(length)[None, None, :, None]
    return jnp.any(span_BA2[:, :, None] == slot_L, axis=1)


def span_losses(logits_BL2: Array, batch: Batch, distil_coef: float) -> Array:
    """Return the mean of the losses of first and last token, float32 [B].

        loss = 1/2 sum_{e in first, last} - log sum_{i accepted} softmax(logits_e)_i

    With a teacher, its soft cross-entropy replaces the fraction d of this loss. The released
    program of TR-BERT takes half the sum with labels and the whole sum with a teacher, so that its
    alpha has two meanings.

    Source: BERT for one accepted answer; Clark and Gardner, ACL 2018, section 2.2, for several.
    """
    log_prob_BL2 = logits_BL2 - jax.nn.logsumexp(logits_BL2, axis=1, keepdims=True)
    accepted_BL2 = accepted_ends(batch.head_slots["span_BA2"], logits_BL2.shape[1])
    accepted_prob_BL2 = jnp.where(accepted_BL2, log_prob_BL2, MASK_BIAS)
    loss_B2 = -jax.nn.logsumexp(accepted_prob_BL2, axis=1)
    loss_B = (1.0 - distil_coef) * jnp.mean(loss_B2, axis=-1)
    teacher_BL2 = get_teacher_logits(batch, distil_coef)
    if teacher_BL2 is not None:
        logits_B2L, teacher_B2L = (jnp.moveaxis(x, 2, 1) for x in (logits_BL2, teacher_BL2))
        teacher_B2L = jnp.where(batch.valid_BL[:, None], teacher_B2L, MASK_BIAS)
        soft_B2 = soft_losses(logits_B2L, jnp.zeros_like(logits_B2L), teacher_B2L, 1.0)
        loss_B = loss_B + distil_coef * jnp.mean(soft_B2, axis=-1)
    return loss_B


def first_answer_logit(logits_BL2: Array, batch: Batch) -> Array:
    """Return the sum of the logits of the first accepted answer's ends, float32 [B].

    Saliency is its gradient. This is our choice: AdapLeR's paper has classification alone.
    """
    first_B12 = batch.head_slots["span_BA2"][:, :1]
    return jnp.sum(jnp.take_along_axis(logits_BL2, jnp.maximum(first_B12, 0), axis=1), axis=(1, 2))


def span_accuracy(logits_BL2: Array, batch: Batch) -> Array:
    """Return 1 where both likeliest ends belong to accepted answers, float32 [B]."""
    accepted_BL2 = accepted_ends(batch.head_slots["span_BA2"], logits_BL2.shape[1])
    best_B12 = jnp.argmax(logits_BL2, axis=1, keepdims=True)
    is_right_B12 = jnp.take_along_axis(accepted_BL2, best_B12, axis=1)
    return jnp.all(is_right_B12, axis=(1, 2)).astype(jnp.float32)


SPAN = Head(
    name="span",
    needs_all_states=True,
    init=init_span,
    apply=score_ends,
    loss_fn=span_losses,
    target_logit=first_answer_logit,
    accuracy_fn=span_accuracy,
    flops=lambda params, config, length_B: length_B * flops.linear_flops(config.hidden_dim, 2),
    logits_shape=lambda config, length, num_classes: (length, 2),
)
