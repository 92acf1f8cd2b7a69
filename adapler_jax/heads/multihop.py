"""HotpotQA: the span of the answer, its type (span, yes, no), and the sentences that support it.

Letters of this file besides the key of `types.py`:

    A accepted answers        E two states, joined        X sentences of a row
"""

import functools

import jax
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
from adapler_jax.heads.classification import class_accuracy, class_losses, label_logit
from adapler_jax.heads.span import (
    first_answer_logit,
    init_span,
    score_ends,
    span_accuracy,
    span_losses,
)
from adapler_jax.nn import gelu_erf, init_linear, linear
from adapler_jax.types import MASK_BIAS, Array, Batch, EncoderConfig, Params

NUM_TYPES = 3


def init_hotpot(key: Array, config: EncoderConfig, num_classes: int = 0) -> Params:
    """Return fresh maps: span (D, 2), type (D, 3), of sentences (2D, D) and (D, 2)."""
    del num_classes
    D, std = config.hidden_dim, config.init_std
    span_key, type_key, hidden_key, support_key = jax.random.split(key, 4)
    return {
        **init_span(span_key, config),
        "type": init_linear(type_key, (D, NUM_TYPES), std),
        "sentence_hidden": init_linear(hidden_key, (2 * D, D), std),
        "sentence_support": init_linear(support_key, (D, 2), std),
    }


def hotpot_logits(params: Params, config: EncoderConfig, exit_hidden_BLD, batch: Batch, key=None):
    """Return the logits of an answer's ends "span_BL2", type "type_B3" and sentences "support_BX2".

        type = W max_i h_i,    i valid;        support = W2 gelu(W1 [h_first; h_last])

    A sentence has logits against and for its support, (0, MASK_BIAS) where it does not exist. No
    dropout. The released program takes the maximum over padding too, so that an answer depends on
    its batch: a defect.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    del key
    return {
        "span_BL2": score_ends(params, config, exit_hidden_BLD, batch),
        "type_B3": linear(params["type"], highest_state(exit_hidden_BLD, batch.valid_BL)),
        "support_BX2": score_sentences(params, exit_hidden_BLD, batch.head_slots["sentence_BX2"]),
    }


def highest_state(exit_hidden_BLD, valid_BL):
    """Return the maximum of each entry over the valid tokens, [B, D]; 0 for a row without any."""
    highest_BD = jnp.max(jnp.where(valid_BL[..., None], exit_hidden_BLD, MASK_BIAS), axis=1)
    return jnp.where(jnp.any(valid_BL, axis=1)[:, None], highest_BD, 0.0)


def score_sentences(params: Params, exit_hidden_BLD, sentence_BX2):
    """Return the logits of the sentences, float32 [B, X, 2]."""
    B, X, _ = sentence_BX2.shape
    state_BXE = gather_states(exit_hidden_BLD, sentence_BX2.reshape(B, 2 * X)).reshape(B, X, -1)
    logits_BX2 = linear(
        params["sentence_support"], gelu_erf(linear(params["sentence_hidden"], state_BXE))
    )
    nothing_BX2 = jnp.broadcast_to(jnp.array([0.0, MASK_BIAS])[None, None], (B, X, 2))
    return jnp.where(sentence_BX2[..., :1] >= 0, logits_BX2, nothing_BX2)


def has_span(batch: Batch):
    """Return the rows with an accepted answer, bool [B]."""
    return jnp.any(batch.head_slots["span_BA2"] >= 0, axis=(1, 2))


def mean_of_sentences(x_BX, batch: Batch):
    """Return the mean over the sentences that exist, float32 [B]; 0 without any."""
    exists_BX = batch.head_slots["support_BX"] >= 0
    num_B = jnp.maximum(1.0, jnp.sum(exists_BX, axis=-1, dtype=jnp.float32))
    return jnp.sum(jnp.where(exists_BX, x_BX, 0.0), axis=-1) / num_B


def hotpot_losses(logits, batch: Batch, distil_coef: float):
    """Return the sum of three losses, float32 [B]; their equal weights are our choice.

        span (`span_losses`), 0 where the row has none  +  type  +  mean over the sentences of
        support

    Each is (1 - d) by the labels plus d by the teacher's logits, a dict like `logits`. The teacher
    has learnt nothing of spans in rows without one.
    """
    teacher = get_teacher_logits(batch, distil_coef)

    def seen(name):
        """Return the batch with one of the teacher's logits."""
        return batch if teacher is None else batch.replace(teacher_logits=teacher[name])

    span_B = span_losses(logits["span_BL2"], seen("span_BL2"), distil_coef)
    type_B = class_losses(logits["type_B3"], seen("type_B3"), distil_coef)
    is_gold_BX2 = (support_class(batch) == jnp.arange(2, dtype=jnp.int32)[None, None]).astype(
        jnp.float32
    )
    teacher_BX2 = None if teacher is None else teacher["support_BX2"]
    support_BX = soft_losses(logits["support_BX2"], is_gold_BX2, teacher_BX2, distil_coef)
    return jnp.where(has_span(batch), span_B, 0.0) + type_B + mean_of_sentences(support_BX, batch)


def support_class(batch: Batch):
    """Return the right class of each sentence, int32 [B, X, 1]; 0 in empty slots."""
    return jnp.maximum(batch.head_slots["support_BX"], 0)[..., None]


def hotpot_target(logits, batch: Batch):
    """Return the logit whose gradient is saliency, float32 [B].

    It is the sum of the logits of the right span's ends, where the row has one, of the right type,
    and the mean over the sentences of the right class. This is our choice.
    """
    span_B = jnp.where(has_span(batch), first_answer_logit(logits["span_BL2"], batch), 0.0)
    support_BX = jnp.take_along_axis(logits["support_BX2"], support_class(batch), axis=-1)[..., 0]
    return span_B + label_logit(logits["type_B3"], batch) + mean_of_sentences(support_BX, batch)


def hotpot_accuracy(logits, batch: Batch):
    """Return 1 where the likeliest type and, for a span, both ends are right, float32 [B]."""
    right_B = class_accuracy(logits["type_B3"], batch)
    return jnp.where(
        batch.label_B == 0, right_B * span_accuracy(logits["span_BL2"], batch), right_B
    )


def hotpot_flops(params: Params, config: EncoderConfig, length_B, *, num_sentences: int):
    """Return the operations: span and maximum of every token, the type, all sentence slots."""
    D = config.hidden_dim
    sentence = (
        flops.linear_flops(2 * D, D) + flops.activation_flops("gelu", D) + flops.linear_flops(D, 2)
    )
    return (
        length_B * (flops.linear_flops(D, 2) + D)
        + flops.linear_flops(D, NUM_TYPES)
        + num_sentences * sentence
    )


def protect_sentence_ends(batch: Batch):
    """Return the first and last token of every sentence, bool [B, L]."""
    return slot_mask(batch.head_slots["sentence_BX2"], batch.valid_BL.shape[1])


def hotpot(num_sentences: int, protects: bool = True) -> Head:
    """Return the head for an answer and its supporting sentences.

    batch.label_B is the type: 0 a span, 1 yes, 2 no. batch.head_slots: "span_BA2" as for a span,
    all -1 without one; "sentence_BX2" first and last slot of each sentence; "support_BX" 1 for a
    supporting one, else 0. -1 is none in all of them.

    Args:
      num_sentences: slots X for sentences.
      protects: first and last tokens of sentences stay. False is the released program: the policy
        may drop them.
    """
    return _hotpot(num_sentences, protects)


# one object for equal arguments in any form, so that compiled programs are found again
@functools.cache
def _hotpot(num_sentences: int, protects: bool) -> Head:
    """Return the head of `hotpot`."""
    return Head(
        name="hotpot",
        needs_all_states=True,
        init=init_hotpot,
        apply=hotpot_logits,
        loss_fn=hotpot_losses,
        target_logit=hotpot_target,
        accuracy_fn=hotpot_accuracy,
        flops=functools.partial(hotpot_flops, num_sentences=num_sentences),
        logits_shape=lambda config, length, num_classes: {
            "span_BL2": (length, 2),
            "type_B3": (NUM_TYPES,),
            "support_BX2": (num_sentences, 2),
        },
        protected_tokens=protect_sentence_ends if protects else no_protected_tokens,
        factory_kwargs=(("num_sentences", num_sentences), ("protects", protects)),
    )
