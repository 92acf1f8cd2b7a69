"""Classes of a text, read off [CLS]."""

import jax
import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.encoders.bert import ACTIVATIONS, dropout, init_linear, linear
from adapler_jax.heads.base import Head, get_teacher_logits, soft_losses
from adapler_jax.types import Batch, EncoderConfig, Params


def init_classifier(key, config: EncoderConfig, num_classes: int) -> Params:
    """Fresh pooler (D, D) and classifier (D, C)."""
    pooler_key, classifier_key = jax.random.split(key)
    D, std = config.hidden_dim, config.init_std
    return {
        "pooler": init_linear(pooler_key, (D, D), std),
        "classifier": init_linear(classifier_key, (D, num_classes), std),
    }


def classify(params: Params, config: EncoderConfig, cls_BD, batch: Batch | None = None, key=None):
    """Logits float32 [B, C] from the last [CLS] state: dense(dropout(f(dense(cls)))), f the pooler's activation."""
    pooled_BD = ACTIVATIONS[config.pooler_activation](linear(params["pooler"], cls_BD))
    rate = config.classifier_dropout_prob
    rate = config.hidden_dropout_prob if rate is None else rate
    return linear(params["classifier"], dropout(key, pooled_BD, rate))


def class_losses(logits_BC, batch: Batch, distil_coef: float):
    """Cross-entropy of each example, float32 [B]: (1 - d) with the label + d with the teacher's probabilities."""
    label_BC = jax.nn.one_hot(batch.label_B, logits_BC.shape[-1], dtype=jnp.float32)
    return soft_losses(logits_BC, label_BC, get_teacher_logits(batch, distil_coef), distil_coef)


def class_gold(logits_BC, batch: Batch):
    """The logit of the right class, float32 [B]."""
    return jnp.take_along_axis(logits_BC, batch.label_B[:, None], axis=-1)[:, 0]


def best_class(logits_BC, batch: Batch):
    """1 where the likeliest class is right, float32 [B]."""
    return (jnp.argmax(logits_BC, axis=-1) == batch.label_B).astype(jnp.float32)


def classifier_flops(params: Params, config: EncoderConfig, length_B):
    """Pooler and classifier of one example, of any length."""
    return flops.pooled_flops(config, params["classifier"]["bias"].shape[-1])


CLASSIFICATION = Head(
    name="classification",
    needs_all_states=False,
    init=init_classifier,
    apply=classify,
    loss_fn=class_losses,
    target_logit=class_gold,
    accuracy_fn=best_class,
    flops=classifier_flops,
    logits_shape=lambda config, length, num_classes: (num_classes,),
)
