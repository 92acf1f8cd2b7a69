"""A tag of every token, from its last state: named entities, parts of speech."""

import jax
import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.heads.base import Head, get_teacher_logits, soft_losses
from adapler_jax.heads.classification import init_classifier, pool
from adapler_jax.nn import dropout, init_linear, linear
from adapler_jax.types import Array, Batch, EncoderConfig, Params

# Of batch.head_slots: int32, the tag of each token, or below 0. Special tokens have none, and of a
# word only its first piece has one.
TAGS = "tag_BL"


def init_tagger(key: Array, config: EncoderConfig, num_classes: int) -> Params:
    """Return a fresh classifier (D, C), with the layer before it in families that have one."""
    if config.has_pooler_norm:
        return init_classifier(key, config, num_classes)
    return {"classifier": init_linear(key, (config.hidden_dim, num_classes), config.init_std)}


def dropout_rate(config: EncoderConfig) -> float:
    """Return the rate before the classifier.

    DistilBERT, whose pooler has a ReLU, has a rate of its own for classes of texts alone.
    """
    rate = config.classifier_dropout_prob
    is_for_texts = config.pooler_activation == "relu" and not config.has_pooler_norm
    return config.hidden_dropout_prob if rate is None or is_for_texts else rate


def score_tags(
    params: Params,
    config: EncoderConfig,
    exit_hidden_BLD: Array,
    batch: Batch,
    key: Array | None = None,
) -> Array:
    """Return dense(dropout(state)) of each token, logits float32 [B, L, C]; 0 on padding.

    Families with a norm in the pooler have `classification.pool` before the dropout.

    Source: Devlin et al., "BERT", section 5.3.
    """
    state_BLD = exit_hidden_BLD
    if config.has_pooler_norm:
        state_BLD = pool(params, config, state_BLD)
    dropped_BLD = dropout(key, state_BLD, dropout_rate(config))
    logits_BLC = linear(params["classifier"], dropped_BLD)
    return jnp.where(batch.valid_BL[..., None], logits_BLC, 0.0)


def read_tags(batch: Batch, length: int) -> tuple[Array, Array]:
    """Return the tag of each token, int32 [B, L], 0 without one, and which have one, bool [B, L].

    Args:
      batch: with TAGS, of any number of columns: a split has as many as its longest text.
      length: token slots L.
    """
    tag_BL = jnp.asarray(batch.head_slots[TAGS])[:, :length]
    missing = ((0, 0), (0, length - tag_BL.shape[1]))
    tag_BL = jnp.pad(tag_BL, missing, constant_values=-1)
    return jnp.maximum(tag_BL, 0), (tag_BL >= 0) & batch.valid_BL


def mean_of_tagged(value_BL: Array, is_tagged_BL: Array) -> Array:
    """Return the mean over the tagged tokens of each example, float32 [B]; 0 without any."""
    total_B = jnp.sum(jnp.where(is_tagged_BL, value_BL, 0.0), axis=1)
    return total_B / jnp.maximum(1, jnp.sum(is_tagged_BL, axis=1)).astype(jnp.float32)


def tag_losses(logits_BLC: Array, batch: Batch, distil_coef: float) -> Array:
    """Return the mean cross-entropy over the tagged tokens of each example, float32 [B].

    It is (1 - d) with the tag plus d with the teacher's probabilities for the same token.
    """
    tag_BL, is_tagged_BL = read_tags(batch, logits_BLC.shape[1])
    right_BLC = jax.nn.one_hot(tag_BL, logits_BLC.shape[-1], dtype=jnp.float32)
    teacher_BLC = get_teacher_logits(batch, distil_coef)
    loss_BL = soft_losses(logits_BLC, right_BLC, teacher_BLC, distil_coef)
    return mean_of_tagged(loss_BL, is_tagged_BL)


def mean_tag_logit(logits_BLC: Array, batch: Batch) -> Array:
    """Return the mean logit of the right tags over the tagged tokens, float32 [B].

    Its gradient is the saliency: a token matters by what it does for the tags of all words, its own
    included. This is our choice: AdapLeR's paper has classification alone.
    """
    tag_BL, is_tagged_BL = read_tags(batch, logits_BLC.shape[1])
    right_BL1 = jnp.take_along_axis(logits_BLC, tag_BL[..., None], axis=-1)
    return mean_of_tagged(right_BL1[..., 0], is_tagged_BL)


def tag_accuracy(logits_BLC: Array, batch: Batch) -> Array:
    """Return the fraction of tagged tokens whose likeliest tag is right, float32 [B]."""
    tag_BL, is_tagged_BL = read_tags(batch, logits_BLC.shape[1])
    is_right_BL = jnp.argmax(logits_BLC, axis=-1) == tag_BL
    return mean_of_tagged(is_right_BL.astype(jnp.float32), is_tagged_BL)


def tagger_flops(params: Params, config: EncoderConfig, length_B):
    """Return the operations of the classifier, and of a layer before it, for every token."""
    num_classes = params["classifier"]["bias"].shape[-1]
    if config.has_pooler_norm:
        return length_B * flops.pooled_flops(config, num_classes)
    return length_B * flops.linear_flops(config.hidden_dim, num_classes)


TOKEN_CLASSIFICATION = Head(
    name="token_classification",
    needs_all_states=True,
    has_classes=True,
    init=init_tagger,
    apply=score_tags,
    loss_fn=tag_losses,
    target_logit=mean_tag_logit,
    accuracy_fn=tag_accuracy,
    flops=tagger_flops,
    logits_shape=lambda config, length, num_classes: (length, num_classes),
)
