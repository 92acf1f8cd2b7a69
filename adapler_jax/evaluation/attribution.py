"""What other explanations make of each token, layer by layer, beside a pruner's scores: attention, rollout, saliency.

All are of plain BERT, at full width. One layer's attention is held at a time, [B, H, L, S]: choose B by it.
"""

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax import heads
from adapler_jax.encoders import bert as encoder
from adapler_jax.inference.drivers import masked
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Batch, EncoderConfig, Params


@flax.struct.dataclass
class AttentionScores:
    """Scores by attention, mean over the heads; each sums to 1 over the tokens of an example, 0 on padding."""

    cls_NBL: jax.Array  # float32: what [CLS] pays to the token
    received_NBL: jax.Array  # float32: what a token pays to it, mean over the tokens
    rollout_NBL: jax.Array  # float32: what [CLS] pays through all layers up to this one


def attention_scores(
    params: Params, config: EncoderConfig, batch: Batch, *, dtype=jnp.float32
) -> AttentionScores:
    """Attention and its rollout at every layer of plain BERT.

        A = mean_h attention_h,   R_0 = I,   R_(n+1) = (A_n + I) / 2 R_n;   scores are row [CLS] of A and of R

    Args: params: of the whole model, encoder layers stacked. dtype: of the operands of the encoder's products.
    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, rollout.
    """
    bias_BL = encoder.attention_bias(batch.valid_BL)
    valid_BL = batch.valid_BL.astype(jnp.float32)
    query_mask_BL = valid_BL / jnp.sum(valid_BL, axis=-1, keepdims=True)
    L = batch.token_BL.shape[-1]

    def run_layer(carry, layer):
        hidden_BLD, rollout_BLL = carry
        mean_BLL = jnp.mean(
            encoder.attention_probs(layer, config, hidden_BLD, bias_BL, dtype=dtype), axis=1
        )
        rollout_BLL = 0.5 * (jnp.einsum("BLS,BSR->BLR", mean_BLL, rollout_BLL) + rollout_BLL)
        hidden_BLD = run_plain(layer, config, hidden_BLD, bias_BL, dtype=dtype)
        received_BL = jnp.einsum("BL,BLS->BS", query_mask_BL, mean_BLL)
        return (hidden_BLD, rollout_BLL), AttentionScores(
            mean_BLL[:, 0], received_BL, rollout_BLL[:, 0]
        )

    hidden_BLD = encoder.embed(
        params["encoder"]["embeddings"], config, batch.token_BL, batch.segment_BL
    )
    start_BLL = jnp.broadcast_to(jnp.eye(L, dtype=jnp.float32), (len(hidden_BLD), L, L))
    _, scores = jax.lax.scan(run_layer, (hidden_BLD, start_BLL), params["encoder"]["layers"])
    return scores


def run_plain(layer: Params, config: EncoderConfig, hidden_BLD, bias_BL, *, dtype):
    """One layer of plain BERT."""
    hidden_BLD = encoder.attend(layer, config, hidden_BLD, bias_BL, dtype=dtype)
    return encoder.feed_forward(layer, config, hidden_BLD, dtype=dtype)


def layer_saliency(params: Params, config: EncoderConfig, batch: Batch, *, dtype=jnp.float32):
    """Gradient times input before every layer of plain BERT, float32 [N, B, L], 0 on padding; and the logits [B, C].

        S_n(i) = || d logit_y / d h_n(i) * h_n(i) ||_2     over the hidden dimension, y the class that the model answers

    Arguments as in `attention_scores`. Source: AdapLeR, section 3; there y is the true class, which an explanation does
    not know.
    """
    bias_BL = encoder.attention_bias(batch.valid_BL)
    start_BLD = encoder.embed(
        params["encoder"]["embeddings"], config, batch.token_BL, batch.segment_BL
    )

    def run(shift_NBLD):
        """Logits with every layer's input shifted, and the inputs."""

        def run_layer(hidden_BLD, scanned):
            layer, shift_BLD = scanned
            hidden_BLD = hidden_BLD + shift_BLD
            return run_plain(layer, config, hidden_BLD, bias_BL, dtype=dtype), hidden_BLD

        hidden_BLD, entering_NBLD = jax.lax.scan(
            run_layer, start_BLD, (params["encoder"]["layers"], shift_NBLD)
        )
        return heads.classify(params["head"], config, hidden_BLD[:, 0]), entering_NBLD

    no_shift_NBLD = jnp.zeros((config.num_layers, *start_BLD.shape), jnp.float32)
    logits_BC, pull_back, entering_NBLD = jax.vjp(run, no_shift_NBLD, has_aux=True)
    answer_BC = jax.nn.one_hot(
        jnp.argmax(logits_BC, axis=-1), logits_BC.shape[-1], dtype=jnp.float32
    )
    (gradient_NBLD,) = pull_back(answer_BC)
    saliency_NBL = jnp.linalg.norm(gradient_NBLD * entering_NBLD, axis=-1)
    return jnp.where(batch.valid_BL, saliency_NBL, 0.0), logits_BC


def pruner_scores(
    params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, dtype=jnp.float32
):
    """The pruner's scores under its hard rule, and the tokens that each site kept: float32 and bool [N, B, L].

    Scores are 0 once a token is gone, and at layers without a site.
    """
    _, trace = masked.forward(params, config, pruner, batch, dtype=dtype)
    keep_NBL = trace.survival_NBL > 0
    entered_NBL = jnp.concatenate([batch.valid_BL[None], keep_NBL[:-1]])
    return jnp.where(entered_NBL, trace.score_NBL, 0.0), keep_NBL
