"""MPNet: BERT's layers without segments, and with a bias of relative positions.

    h_0 = norm(token + position)
    A_h(q, k) = softmax_k (q k / sqrt(K) + bias[bucket(p_k - p_q), h])

p are the original positions of tokens. All layers read one table of biases. A bucket is a distance
before the query or after it. From 8 positions on it holds several distances, and the last one holds
all from 91 on. A file's position table has two more rows before the first position, which are left
out on load.

The tree is BERT's without segments and with "relative": {"bias" [Z, H]}. Letters besides the key of
`types.py`:

    Z buckets of distances

Source: Song et al., "MPNet", NeurIPS 2020; names and constants as in the published checkpoints.
Raffel et al., "T5", JMLR 2020, for the buckets.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops
from adapler_jax.encoders import bert, bert_config
from adapler_jax.encoders.base import layers_of
from adapler_jax.encoders.config_format import (
    TEXT_HEADS,
    ConfigFormat,
    names_of_text_head,
    renamed_parts,
)
from adapler_jax.nn import init_norm
from adapler_jax.nn import truncated_normal as normal
from adapler_jax.types import Array, EncoderConfig, Params, Rule, linear_rules, norm_rules

NUM_BUCKETS = 32  # half of them for tokens after the query
NUM_EXACT = 8  # distances with a bucket of their own
PADDING = 1  # the padding token in transformers' program, whatever config.json names
OFFSET = PADDING + 1  # rows of a file's position table before the first position
SIZES = {key: field for key, field in bert_config.SIZES.items() if key != "type_vocab_size"}
SUPPORTED_VALUES = {
    "model_type": "mpnet",
    "relative_attention_num_buckets": NUM_BUCKETS,
} | bert_config.SUPPORTED_VALUES
ARCHITECTURES = dict.fromkeys(TEXT_HEADS, "MPNetForSequenceClassification") | {
    "choice": "MPNetForMultipleChoice",
    "span": "MPNetForQuestionAnswering",
    "token_classification": "MPNetForTokenClassification",
}


def init_encoder(key: Array, config: EncoderConfig) -> Params:
    """Return a fresh parameter tree, float32."""
    D, std = config.hidden_dim, config.init_std
    token_key, position_key, bias_key, layers_key = jax.random.split(key, 4)
    embeddings = {
        "token": normal(token_key, (config.vocab_size, D), std),
        "position": normal(position_key, (config.num_positions, D), std),
        "norm": init_norm((D,)),
    }
    return {
        "embeddings": embeddings,
        "layers": bert.init_layers(layers_key, config),
        "relative": {"bias": normal(bias_key, (NUM_BUCKETS, config.num_heads), std)},
    }


def embed(
    params: Params,
    config: EncoderConfig,
    token_X: Array,
    segment_X: Array,
    position_X: Array,
    *,
    key: Array | None = None,
) -> Array:
    """Return the normalised sum of token and position embeddings, float32 [..., D]."""
    del segment_X
    sum_XD = params["token"][token_X] + params["position"][position_X]
    return bert.normalize_embeddings(params, config, sum_XD, key=key)


def buckets_of(distance_X: np.ndarray) -> np.ndarray:
    """Return the bucket of each distance, the key's position less the query's, int32.

        n < 8:  n;   else  min(15, 8 + floor(2 log_2 (n / 8))),   n = |distance|

    Distances after the query have 16 more. Squares of whole numbers decide, so that no logarithm is
    rounded.
    """
    near_X = np.abs(distance_X)
    half = NUM_BUCKETS // 2
    steps = range(1, half - NUM_EXACT)
    far_X = sum((near_X**2 >= NUM_EXACT**2 * 2**step).astype(np.int32) for step in steps)
    bucket_X = np.where(near_X < NUM_EXACT, near_X, NUM_EXACT + far_X)
    return (bucket_X + half * (distance_X > 0)).astype(np.int32)


def bias_of_distances(layer: Params, num_positions: int) -> Array:
    """Return the bias of the distances from 1 - P to P - 1, float32 [H, 2 P - 1]; P positions."""
    distance_X = np.arange(1 - num_positions, num_positions)
    return layer["relative"]["bias"][buckets_of(distance_X)].T


def pair_bias(
    layer: Params, config: EncoderConfig, query_position_BL: Array, key_position_BS: Array
) -> Array:
    """Return the bias of pairs by the distance of their positions, float32 [B, H, L, S]."""
    P = config.num_positions
    bias_HX = bias_of_distances(layer, P)
    distance_BLS = key_position_BS[:, None] - query_position_BL[:, :, None]
    bias_HBLS = jnp.take(bias_HX, distance_BLS + (P - 1), axis=1, mode="clip")
    return jnp.moveaxis(bias_HBLS, 0, 1)


def prepare_inference_params(params: Params, config: EncoderConfig, dtype=jnp.float32) -> Params:
    """Return BERT's form of the parameters, with the bias in each layer."""
    layers = layers_of(MPNET, params)
    bias_NZH = layers["relative"]["bias"]
    prepared = bert.prepare_inference_params(params, config, dtype)
    own = zip(prepared["layers"], np.asarray(bias_NZH))
    return prepared | {
        "layers": jax.device_put(tuple(layer | {"relative": {"bias": x}} for layer, x in own))
    }


def embedding_flops(config: EncoderConfig, length):
    """Return the operations of a sum and the norm, for `length` tokens."""
    D = config.hidden_dim
    return flops.as_counts(length) * (D + flops.norm_flops(D))


def find_problems(raw: dict[str, Any]) -> list[str]:
    """Return everything in config.json that the encoder cannot compute; one line each."""
    problems = bert_config.find_problems(raw, SUPPORTED_VALUES, SIZES)
    if not problems and raw["max_position_embeddings"] <= OFFSET:
        problems.append(
            f"max_position_embeddings is {raw['max_position_embeddings']}, expected more than "
            f"{OFFSET}: the first position is row {OFFSET}"
        )
    return problems


def read_fields(raw: dict[str, Any]) -> EncoderConfig:
    """Return the config of a file without problems."""
    fields = bert_config.read_fields(raw, SIZES)
    fields |= {"num_positions": fields["num_positions"] - OFFSET, "num_segments": 1}
    return EncoderConfig(**fields, family="mpnet")


def write_fields(config: EncoderConfig) -> dict[str, Any]:
    """Return the contents of a config.json that describe the encoder."""
    own = {
        "model_type": "mpnet",
        "relative_attention_num_buckets": NUM_BUCKETS,
        "pad_token_id": PADDING,
    }
    fields = bert_config.write_fields(config, SIZES)
    return own | fields | {"max_position_embeddings": config.num_positions + OFFSET}


_POSITIONS = "mpnet.embeddings.position_embeddings.weight"
_POOLER = "mpnet.pooler.dense."
_TEXT_NAMES = names_of_text_head(_POOLER)


def from_published(tensors: dict) -> dict:
    """Return the tensors without the first rows of the positions, and the head's by our names.

    A classifier of texts has its own layer in place of the pooler.
    """
    if any(name.startswith("classifier.dense.") for name in tensors):
        tensors = {name: value for name, value in tensors.items() if not name.startswith(_POOLER)}
    tensors = renamed_parts(tensors, _TEXT_NAMES)
    if np.ndim(tensors.get(_POSITIONS, 0)) == 2:
        tensors[_POSITIONS] = tensors[_POSITIONS][OFFSET:]
    return tensors


def to_published(tensors: dict, head: str) -> dict:
    """Return the tensors in the form of the head's class, the inverse of `from_published`."""
    names = {ours: other for other, ours in _TEXT_NAMES.items()} if head in TEXT_HEADS else {}
    position_XD = np.pad(tensors[_POSITIONS], ((OFFSET, 0), (0, 0)))
    return renamed_parts(tensors | {_POSITIONS: position_XD}, names)


_EMBEDDINGS, _LAYER = "mpnet.embeddings", "mpnet.encoder.layer.{layer}"
_ATTENTION = f"{_LAYER}.attention.attn"
TENSOR_RULES = (
    Rule(f"{_EMBEDDINGS}.word_embeddings.weight", ("encoder", "embeddings", "token"), "VD"),
    Rule(_POSITIONS, ("encoder", "embeddings", "position"), "XD"),
    *norm_rules(f"{_EMBEDDINGS}.LayerNorm", "encoder/embeddings/norm"),
    Rule("mpnet.encoder.relative_attention_bias.weight", ("encoder", "relative", "bias"), "ZH"),
    *linear_rules(f"{_ATTENTION}.q", "encoder/layers/query", "DD"),
    *linear_rules(f"{_ATTENTION}.k", "encoder/layers/key", "DD"),
    *linear_rules(f"{_ATTENTION}.v", "encoder/layers/value", "DD"),
    *linear_rules(f"{_ATTENTION}.o", "encoder/layers/attention_output", "DD"),
    *norm_rules(f"{_LAYER}.attention.LayerNorm", "encoder/layers/attention_norm"),
    *linear_rules(f"{_LAYER}.intermediate.dense", "encoder/layers/ffn_in", "DF"),
    *linear_rules(f"{_LAYER}.output.dense", "encoder/layers/ffn_out", "FD"),
    *norm_rules(f"{_LAYER}.output.LayerNorm", "encoder/layers/ffn_norm"),
)

MPNET = bert.BERT._replace(
    name="mpnet",
    init=init_encoder,
    embed=embed,
    prepare_inference_params=prepare_inference_params,
    flops=bert.BERT.flops._replace(embedding=embedding_flops, num_pair_terms=1),
    tensor_rules=TENSOR_RULES,
    pair_bias=pair_bias,
    shared=("relative",),
    needs_positions=True,
    pooler_rules=linear_rules(_POOLER.removesuffix("."), "head/pooler", "DD"),
    config_format=ConfigFormat(
        find_problems=find_problems,
        read=read_fields,
        write=write_fields,
        architectures=ARCHITECTURES,
        base_architecture="MPNetModel",
        from_published=from_published,
        to_published=to_published,
    ),
)
