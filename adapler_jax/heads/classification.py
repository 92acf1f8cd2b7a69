"""Classes of a text, from the state of [CLS]."""

import jax
import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.heads.base import Head, get_teacher_logits, soft_losses
from adapler_jax.nn import ACTIVATIONS, dropout, init_linear, layer_norm, linear
from adapler_jax.types import Array, Batch, EncoderConfig, Params


def init_classifier(key: Array, config: EncoderConfig, num_classes: int) -> Params:
    """Return a fresh pooler (D, D) and classifier (D, C)."""
    pooler_key, classifier_key = jax.random.split(key)
    D, std = config.hidden_dim, config.init_std
    pooler = init_linear(pooler_key, (D, D), std)
    params = {"classifier": init_linear(classifier_key, (D, num_classes), std)}
    if config.has_pooler_norm:
        norm = {"scale": jnp.ones((D,), jnp.float32)}
        return params | {"pooler": {"kernel": pooler["kernel"]}, "pooler_norm": norm}
    return params | {"pooler": pooler}


def pool(params: Params, config: EncoderConfig, state_XD: Array) -> Array:
    """Return norm(f(dense(h))), what a classifier reads, float32 [..., D].

    f is the pooler's activation. Most families have no norm there.
    """
    pooled_XD = ACTIVATIONS[config.pooler_activation](linear(params["pooler"], state_XD))
    if config.has_pooler_norm:
        pooled_XD = layer_norm(params["pooler_norm"], pooled_XD, config.norm_epsilon)
    return pooled_XD


def classify(
    params: Params,
    config: EncoderConfig,
    cls_BD: Array,
    batch: Batch | None = None,
    key: Array | None = None,
) -> Array:
    """Return dense(dropout(pool(cls))), logits float32 [B, C]."""
    del batch
    rate = config.classifier_dropout_prob
    rate = config.hidden_dropout_prob if rate is None else rate
    return linear(params["classifier"], dropout(key, pool(params, config, cls_BD), rate))


def class_losses(logits_BC: Array, batch: Batch, distil_coef: float) -> Array:
    """Return the cross-entropy of each example, float32 [B].

    It is (1 - d) with the label plus d with the teacher's probabilities.
    """
    label_BC = jax.nn.one_hot(batch.label_B, logits_BC.shape[-1], dtype=jnp.float32)
    return soft_losses(logits_BC, label_BC, get_teacher_logits(batch, distil_coef), distil_coef)


def label_logit(logits_BC: Array, batch: Batch) -> Array:
    """Return the logit of the right class, float32 [B]."""
    return jnp.take_along_axis(logits_BC, batch.label_B[:, None], axis=-1)[:, 0]


def class_accuracy(logits_BC: Array, batch: Batch) -> Array:
    """Return 1 where the likeliest class is right, float32 [B]."""
    return (jnp.argmax(logits_BC, axis=-1) == batch.label_B).astype(jnp.float32)


def classifier_flops(params: Params, config: EncoderConfig, length_B):
    """Return the operations of pooler and classifier for one example of any length."""
    del length_B
    return flops.pooled_flops(config, params["classifier"]["bias"].shape[-1])


CLASSIFICATION = Head(
    name="classification",
    needs_all_states=False,
    has_classes=True,
    init=init_classifier,
    apply=classify,
    loss_fn=class_losses,
    target_logit=label_logit,
    accuracy_fn=class_accuracy,
    flops=classifier_flops,
    logits_shape=lambda config, length, num_classes: (num_classes,),
)
