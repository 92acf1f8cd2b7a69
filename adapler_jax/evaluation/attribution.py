"""Explanations to compare with a pruner's scores: attention, rollout, saliency, layer by layer.

All run the plain encoder at full width. Memory holds one layer's attention at a time, [B, H, L, S].
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.attention import attention_probs, key_bias
from adapler_jax.encoders.base import layer_bias, layers_of, plain_layer, slot_positions
from adapler_jax.forward import embed_tokens, forward_layers, head_logits
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.drivers import masked
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Array, Batch, EncoderConfig, Params


@flax.struct.dataclass
class AttentionScores:
    """Scores by attention, mean over the heads; of sum 1 over an example, 0 on padding."""

    cls_NBL: Array  # float32: attention of [CLS] to the token
    received_NBL: Array  # float32: attention of a token to it, mean over the tokens
    rollout_NBL: Array  # float32: attention of [CLS] through all layers up to this one


def attention_scores(
    params: Params, config: EncoderConfig, batch: Batch, *, dtype=jnp.float32
) -> AttentionScores:
    """Return attention and its rollout at every layer of the plain encoder.

        A = mean_h attention_h,   R_0 = I,   R_(n+1) = (A_n + I) / 2 R_n;   scores are row [CLS] of
        A and of R

    Args:
      params: of the whole model, encoder layers stacked.
      config: of the encoder.
      batch: the examples.
      dtype: of the operands of the encoder's products.

    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, rollout.
    """
    bias_BL = key_bias(batch.valid_BL)
    valid_BL = batch.valid_BL.astype(jnp.float32)
    query_weight_BL = valid_BL / jnp.sum(valid_BL, axis=-1, keepdims=True)
    L = batch.token_BL.shape[-1]
    encoder, position_1L = encoder_of(config), slot_positions(L)

    def run_layer(carry, scanned):
        """Return the states and the rollout after a layer, and its scores."""
        layer, index = scanned
        hidden_BLD, rollout_BLL = carry
        probs_BHLS = layer_probs(layer, config, hidden_BLD, bias_BL, index=index, dtype=dtype)
        mean_BLL = jnp.mean(probs_BHLS, axis=1)
        rollout_BLL = 0.5 * (jnp.einsum("BLS,BSR->BLR", mean_BLL, rollout_BLL) + rollout_BLL)
        hidden_BLD = plain_layer(
            encoder,
            layer,
            config,
            hidden_BLD,
            bias_BL,
            index=index,
            position_BL=position_1L,
            dtype=dtype,
        )
        received_BL = jnp.einsum("BL,BLS->BS", query_weight_BL, mean_BLL)
        scores = AttentionScores(mean_BLL[:, 0], received_BL, rollout_BLL[:, 0])
        return (hidden_BLD, rollout_BLL), scores

    hidden_BLD = embed_tokens(params, config, batch)
    start_BLL = jnp.broadcast_to(jnp.eye(L, dtype=jnp.float32), (len(hidden_BLD), L, L))
    scanned = layers_of(encoder, params["encoder"]), jnp.arange(config.num_layers)
    _, scores = jax.lax.scan(run_layer, (hidden_BLD, start_BLL), scanned)
    return scores


def layer_probs(
    layer: Params, config: EncoderConfig, hidden_BLD: Array, bias_BL: Array, *, index, dtype
) -> Array:
    """Return the attention of each token in one layer, float32 [B, H, L, S]."""
    encoder, position_1L = encoder_of(config), slot_positions(hidden_BLD.shape[1])
    qkv_BLQ = encoder.qkv(
        layer, config, hidden_BLD, index=index, position_X=position_1L, dtype=dtype
    )
    bias_BHLS = layer_bias(encoder, layer, config, index, position_1L)
    return attention_probs(qkv_BLQ, bias_BL, bias_BHLS, num_heads=config.num_heads, dtype=dtype)


def layer_saliency(
    params: Params, config: EncoderConfig, batch: Batch, *, dtype=jnp.float32
) -> tuple[Array, Array]:
    """Return gradient times input before every layer of the plain encoder, and the logits.

        S_n(i) = || d logit_y / d h_n(i) * h_n(i) ||_2     over D, y the predicted class

    Arguments are as in `attention_scores`.

    Returns:
      float32 [N, B, L], 0 on padding; logits float32 [B, C].

    Source: AdapLeR, section 3. There y is the true class, which an explanation does not have.
    """
    bias_BL = key_bias(batch.valid_BL)
    start_BLD = embed_tokens(params, config, batch)
    index_N = jnp.arange(config.num_layers)
    encoder, position_1L = encoder_of(config), slot_positions(batch.token_BL.shape[-1])

    def run(shift_NBLD):
        """Return the logits with every layer's input shifted, and the inputs."""

        def run_layer(hidden_BLD, scanned):
            """Return the states after a layer, and its shifted input."""
            layer, index, shift_BLD = scanned
            hidden_BLD = hidden_BLD + shift_BLD
            after_BLD = plain_layer(
                encoder,
                layer,
                config,
                hidden_BLD,
                bias_BL,
                index=index,
                position_BL=position_1L,
                dtype=dtype,
            )
            return after_BLD, hidden_BLD

        scanned = layers_of(encoder, params["encoder"]), index_N, shift_NBLD
        hidden_BLD, entering_NBLD = jax.lax.scan(run_layer, start_BLD, scanned)
        return head_logits(params, config, CLASSIFICATION, hidden_BLD, batch), entering_NBLD

    no_shift_NBLD = jnp.zeros((config.num_layers, *start_BLD.shape), jnp.float32)
    logits_BC, pull_back, entering_NBLD = jax.vjp(run, no_shift_NBLD, has_aux=True)
    predicted_B = jnp.argmax(logits_BC, axis=-1)
    one_hot_BC = jax.nn.one_hot(predicted_B, logits_BC.shape[-1], dtype=jnp.float32)
    (gradient_NBLD,) = pull_back(one_hot_BC)
    saliency_NBL = jnp.linalg.norm(gradient_NBLD * entering_NBLD, axis=-1)
    return jnp.where(batch.valid_BL, saliency_NBL, 0.0), logits_BC


def input_saliency(
    params: Params,
    config: EncoderConfig,
    batch: Batch,
    *,
    target: Callable[[Any, Batch], Array],
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
):
    """Return gradient times input at the output of the embeddings, float32 [B, L], and the logits.

        S_i = || d logit / d h_i * h_i ||_2        over the hidden dimension, no dropout

    Padding has saliency 0. The encoder is the plain one.

    Args:
      params: of the whole model.
      config: of the encoder.
      batch: the examples.
      target: (logits, batch) -> the logit of each example, float32 [B].
      dtype: of the operands of the encoder's products.
      head: of the model.

    Source: AdapLeR, section 3.
    """
    hidden_BLD = embed_tokens(params, config, batch)
    plain_params = params | {"pruner": {}}

    def target_logits(hidden_BLD):
        """Return the sum of the target logits, and all logits."""
        last_BLD, _, _ = forward_layers(
            plain_params,
            config,
            keep_all(),
            hidden_BLD,
            batch.valid_BL,
            slope=None,
            key=None,
            dtype=dtype,
        )
        logits = head_logits(params, config, head, last_BLD, batch)
        return jnp.sum(target(logits, batch)), logits

    gradient_BLD, logits = jax.grad(target_logits, has_aux=True)(hidden_BLD)
    saliency_BL = jnp.linalg.norm(gradient_BLD * hidden_BLD, axis=-1)
    return jnp.where(batch.valid_BL, saliency_BL, 0.0), logits


def pruner_scores(
    params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, dtype=jnp.float32
) -> tuple[Array, Array]:
    """Return the pruner's hard scores and the kept tokens, float32 and bool [N, B, L].

    Scores are 0 after a token is dropped, and at layers without a site.
    """
    _, trace = masked.forward(params, config, pruner, batch, dtype=dtype)
    keep_NBL = trace.survival_NBL > 0
    entered_NBL = jnp.concatenate([batch.valid_BL[None], keep_NBL[:-1]])
    return jnp.where(entered_NBL, trace.score_NBL, 0.0), keep_NBL
