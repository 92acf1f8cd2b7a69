"""What reads the last states: sequence classification over [CLS]."""

import jax

from adapler_jax.encoder import ACTIVATIONS, dropout, init_linear, linear
from adapler_jax.types import EncoderConfig, Params


def init_classifier(key, config: EncoderConfig, num_classes: int) -> Params:
    """Fresh pooler (D, D) and classifier (D, C)."""
    pooler_key, classifier_key = jax.random.split(key)
    D, std = config.hidden_dim, config.init_std
    return {
        "pooler": init_linear(pooler_key, (D, D), std),
        "classifier": init_linear(classifier_key, (D, num_classes), std),
    }


def classify(params: Params, config: EncoderConfig, cls_BD, *, key=None):
    """Logits float32 [B, C] from the last [CLS] state: dense(dropout(f(dense(cls)))), f the pooler's activation."""
    pooled_BD = ACTIVATIONS[config.pooler_activation](linear(params["pooler"], cls_BD))
    rate = config.classifier_dropout_prob
    rate = config.hidden_dropout_prob if rate is None else rate
    return linear(params["classifier"], dropout(key, pooled_BD, rate))
