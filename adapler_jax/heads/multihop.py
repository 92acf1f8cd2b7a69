"""HotpotQA: the span of the answer, its type (span, yes, no), and the sentences that support it."""

import functools

import jax
import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.encoders.bert import gelu_erf, init_linear, linear
from adapler_jax.heads.base import (
    Head,
    gather_states,
    get_teacher_logits,
    no_protected_tokens,
    slot_mask,
    soft_losses,
)
from adapler_jax.heads.classification import best_class, class_gold, class_losses
from adapler_jax.heads.span import gold_logits, init_span, read_span, span_correct, span_losses
from adapler_jax.types import MASK_BIAS, Batch, EncoderConfig, Params

NUM_TYPES = 3


def init_hotpot(key, config: EncoderConfig, num_classes: int = 0) -> Params:
    """Fresh linears: span (D, 2), type (D, 3), of sentences (2D, D) and (D, 2)."""
    D, std = config.hidden_dim, config.init_std
    span_key, type_key, hidden_key, support_key = jax.random.split(key, 4)
    return {
        **init_span(span_key, config),
        "type": init_linear(type_key, (D, NUM_TYPES), std),
        "sentence_hidden": init_linear(hidden_key, (2 * D, D), std),
        "sentence_support": init_linear(support_key, (D, 2), std),
    }


def read_hotpot(params: Params, config: EncoderConfig, exit_hidden_BLD, batch: Batch, key=None):
    """Logits float32 of an answer's ends "span_BL2", of its type "type_B3", and of each sentence in
    head_slots["sentence_BX2"] as none and one that supports it "support_BX2"; no dropout.

        type = W max_i h_i,    i valid;        support = W2 gelu(W1 [h_first; h_last])

    A sentence that does not exist has logits (0, MASK_BIAS). The released program takes the maximum over padding too,
    so that an answer depends on its batch: a defect.
    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    return {
        "span_BL2": read_span(params, config, exit_hidden_BLD, batch),
        "type_B3": linear(params["type"], highest_state(exit_hidden_BLD, batch.valid_BL)),
        "support_BX2": read_support(params, exit_hidden_BLD, batch.head_slots["sentence_BX2"]),
    }


def highest_state(exit_hidden_BLD, valid_BL):
    """Maximum of each entry over the valid tokens, [B, D]; 0 of a row without any."""
    highest_BD = jnp.max(jnp.where(valid_BL[..., None], exit_hidden_BLD, MASK_BIAS), axis=1)
    return jnp.where(jnp.any(valid_BL, axis=1)[:, None], highest_BD, 0.0)


def read_support(params: Params, exit_hidden_BLD, sentence_BX2):
    """Logits of the sentences, float32 [B, X, 2]."""
    B, X, _ = sentence_BX2.shape
    state_BXE = gather_states(exit_hidden_BLD, sentence_BX2.reshape(B, 2 * X)).reshape(B, X, -1)
    logits_BX2 = linear(
        params["sentence_support"], gelu_erf(linear(params["sentence_hidden"], state_BXE))
    )
    nothing_BX2 = jnp.broadcast_to(jnp.array([0.0, MASK_BIAS])[None, None], (B, X, 2))
    return jnp.where(sentence_BX2[..., :1] >= 0, logits_BX2, nothing_BX2)


def has_span(batch: Batch):
    """Whether an accepted answer is in the row, bool [B]."""
    return jnp.any(batch.head_slots["span_BA2"] >= 0, axis=(1, 2))


def mean_of_sentences(x_BX, batch: Batch):
    """Mean over the sentences that exist, float32 [B]; 0 without any."""
    exists_BX = batch.head_slots["support_BX"] >= 0
    num_B = jnp.maximum(1.0, jnp.sum(exists_BX, axis=-1, dtype=jnp.float32))
    return jnp.sum(jnp.where(exists_BX, x_BX, 0.0), axis=-1) / num_B


def hotpot_losses(logits, batch: Batch, distil_coef: float):
    """Sum of three losses, float32 [B]; that all weigh 1 is ours.

        span (`span_losses`), 0 where the row has none  +  type  +  mean over the sentences of support

    Each is (1 - d) that by the labels + d that by the teacher's logits, a dict as `logits`. The teacher too has learnt
    nothing of spans where there are none.
    """
    teacher = get_teacher_logits(batch, distil_coef)

    def seen(name):
        return batch if teacher is None else batch.replace(teacher_logits=teacher[name])

    span_B = span_losses(logits["span_BL2"], seen("span_BL2"), distil_coef)
    type_B = class_losses(logits["type_B3"], seen("type_B3"), distil_coef)
    is_gold_BX2 = (gold_support(batch) == jnp.arange(2, dtype=jnp.int32)[None, None]).astype(
        jnp.float32
    )
    teacher_BX2 = None if teacher is None else teacher["support_BX2"]
    support_BX = soft_losses(logits["support_BX2"], is_gold_BX2, teacher_BX2, distil_coef)
    return jnp.where(has_span(batch), span_B, 0.0) + type_B + mean_of_sentences(support_BX, batch)


def gold_support(batch: Batch):
    """The right class of each sentence, int32 [B, X, 1]; 0 where there is none."""
    return jnp.maximum(batch.head_slots["support_BX"], 0)[..., None]


def hotpot_gold(logits, batch: Batch):
    """What saliency is the gradient of, float32 [B]: the logits of the gold span's ends, where the row has one, and of
    the gold type, and the mean over the sentences of that of the gold class. Ours."""
    span_B = jnp.where(has_span(batch), gold_logits(logits["span_BL2"], batch), 0.0)
    support_BX = jnp.take_along_axis(logits["support_BX2"], gold_support(batch), axis=-1)[..., 0]
    return span_B + class_gold(logits["type_B3"], batch) + mean_of_sentences(support_BX, batch)


def hotpot_correct(logits, batch: Batch):
    """1 where the likeliest type is right and, of a span, both likeliest ends; sentences do not count. float32 [B]."""
    right_B = best_class(logits["type_B3"], batch)
    return jnp.where(batch.label_B == 0, right_B * span_correct(logits["span_BL2"], batch), right_B)


def hotpot_flops(params: Params, config: EncoderConfig, length_B, *, num_sentences: int):
    """Span and maximum of every token, the type, and so many sentences, also where there are fewer."""
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
    """First and last token of every sentence, bool [B, L]."""
    return slot_mask(batch.head_slots["sentence_BX2"], batch.valid_BL.shape[1])


def hotpot(num_sentences: int, protects: bool = True) -> Head:
    """Answer and supporting sentences. batch.label_B is the type: 0 a span, 1 yes, 2 no; batch.head_slots: "span_BA2" as for
    a span, all -1 where there is none; "sentence_BX2" first and last slot of each sentence, X = num_sentences;
    "support_BX" 1 for a supporting one, else 0; -1 fills all of them. protects: first and last tokens of sentences are
    not dropped; where False the policy may remove them, as in the released program."""
    return _hotpot(num_sentences, protects)


@functools.cache  # one object for equal arguments, however they are passed, so that compiled programs are found again
def _hotpot(num_sentences: int, protects: bool) -> Head:
    return Head(
        name="hotpot",
        needs_all_states=True,
        init=init_hotpot,
        apply=read_hotpot,
        loss_fn=hotpot_losses,
        target_logit=hotpot_gold,
        accuracy_fn=hotpot_correct,
        flops=functools.partial(hotpot_flops, num_sentences=num_sentences),
        logits_shape=lambda config, length, num_classes: {
            "span_BL2": (length, 2),
            "type_B3": (NUM_TYPES,),
            "support_BX2": (num_sentences, 2),
        },
        protected_tokens=protect_sentence_ends if protects else no_protected_tokens,
        factory_kwargs=(("num_sentences", num_sentences), ("protects", protects)),
    )
