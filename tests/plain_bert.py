"""Plain BERT for tests: the encoder's functions with the family filled in."""

import jax

from adapler_jax.encoders import base, plain
from adapler_jax.encoders.attention import attention_probs as probs_of_qkv
from adapler_jax.encoders.attention import (
    attention_received,
    key_bias,
    scaled_dot_product_attention,
    split_heads,
)
from adapler_jax.encoders.bert import BERT, init_encoder, prepare_inference_params
from adapler_jax.encoders.bert import query_key_value as qkv
from adapler_jax.nn import (
    ACTIVATIONS,
    dropout,
    exact_linear,
    gelu_erf,
    init_linear,
    init_norm,
    layer_norm,
    linear,
)
from adapler_jax.types import OTHERS_ATTENTION

__all__ = [
    "ACTIVATIONS",
    "BERT",
    "attend",
    "attention_bias",
    "attention_probs",
    "attention_significance",
    "attention_with_significance",
    "dropout",
    "embed",
    "encode",
    "exact_linear",
    "feed_forward",
    "gelu_erf",
    "init_encoder",
    "init_linear",
    "init_norm",
    "layer_norm",
    "linear",
    "prepare_inference_params",
    "query_key_value",
    "scaled_dot_product_attention",
    "split_heads",
]

attention_bias = key_bias
feed_forward = BERT.feed_forward
NEEDS = frozenset({OTHERS_ATTENTION})


def encode(params, config, token_BL, segment_BL, valid_BL, **options):
    arrays = {"token_BL": token_BL, "segment_BL": segment_BL, "valid_BL": valid_BL}
    return plain.encode(BERT, params, config, **arrays, **options)


def embed(params, config, token_BL, segment_BL, *, key=None):
    return base.embed_batch(BERT, {"embeddings": params}, config, token_BL, segment_BL, key=key)


def query_key_value(layer, config, hidden_BLD, dtype="float32"):
    return qkv(layer, config, hidden_BLD, dtype=jax.numpy.dtype(dtype))


def attend(layer, config, hidden_BLD, bias_BS, **options):
    return base.attend(BERT, layer, config, hidden_BLD, bias_BS, **options)[0]


def attention_with_significance(layer, config, hidden_BLD, bias_BL, *, query_mask_BL, **options):
    states, received = base.attend(
        BERT,
        layer,
        config,
        hidden_BLD,
        bias_BL,
        query_mask_BL=query_mask_BL,
        needs=NEEDS,
        **options,
    )
    return states, received.others_attention_X


def attention_significance(exp_logits_BHLS, normalizer_BHL1, query_mask_BL):
    found = attention_received(
        exp_logits_BHLS, normalizer_BHL1, exp_logits_BHLS, query_mask_BL, needs=NEEDS
    )
    return found.others_attention_X


def attention_probs(layer, config, hidden_BLD, bias_BL):
    qkv_BLQ = query_key_value(layer, config, hidden_BLD)
    return probs_of_qkv(qkv_BLQ, bias_BL, num_heads=config.num_heads)
