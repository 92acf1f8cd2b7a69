"""The vector of a text, for comparisons by cosine: the mean of its tokens' states, or [CLS]'s.

Letters of this file besides the key of `types.py`:

    I entries of a vector
"""

import functools
from typing import Any

import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.heads.base import Head, get_teacher_logits
from adapler_jax.nn import init_linear, linear
from adapler_jax.types import Array, Batch, EncoderConfig, OptionalArray, Params

MEAN, CLS = "mean", "cls"
POOLINGS = (MEAN, CLS)
IDENTITY, TANH = "identity", "tanh"
DENSE_ACTIVATIONS = (IDENTITY, TANH)
MIN_NORM = 1e-12  # of a vector that is divided by its length, as in PyTorch


def unit_vectors(vector_BI: Array) -> Array:
    """Return vectors of length 1, float32 [B, I]; a vector of zeros stays as it is."""
    square_B1 = jnp.sum(jnp.square(vector_BI), axis=-1, keepdims=True)
    return vector_BI / jnp.sqrt(jnp.maximum(square_B1, MIN_NORM**2))


def mean_of_left(exit_hidden_BLD: Array, valid_BL: Array, survival_BL: OptionalArray) -> Array:
    """Return the mean of the states of the tokens that are left, float32 [B, D].

        v = sum_i s_i h_i / sum_i s_i,   i valid, s_i the survival of token i in the last layer

    s is 0 or 1 under the hard rule, and 1 in a model that drops nothing.

    Args:
      exit_hidden_BLD: last states.
      valid_BL: bool.
      survival_BL: float32; None for a model that drops nothing.
    """
    weight_BL = valid_BL.astype(jnp.float32)
    if survival_BL is not None:
        weight_BL = weight_BL * survival_BL
    states_BLD = jnp.where(valid_BL[..., None], exit_hidden_BLD, 0.0)
    total_BD = jnp.sum(weight_BL[..., None] * states_BLD, axis=1)
    return total_BD / jnp.maximum(jnp.sum(weight_BL, axis=1, keepdims=True), MIN_NORM)


def similarity_to_partner(vector_BI: Array) -> Array:
    """Return the cosine of each row's vector and its partner's, float32 [B]; pairs are adjacent."""
    unit_BI = unit_vectors(vector_BI)
    row_B = jnp.arange(len(vector_BI), dtype=jnp.int32)
    partner_B = jnp.minimum(row_B ^ 1, len(vector_BI) - 1)
    return jnp.sum(unit_BI * unit_BI[partner_B], axis=-1)


def embedding_losses(vector_BI: Array, batch: Batch, distil_coef: float) -> Array:
    """Return the loss of each text, float32 [B].

        (1 - d) (cos(v, v_partner) - y)^2
            + d [1 - cos(v, t) + mean_j (cos(v, v_j) - cos(t, t_j))^2]

    v is the text's vector and t the teacher's. j are the other texts of the batch, without padding
    examples. Rows 2k and 2k + 1 are a pair, and y is its similarity.

    Args:
      vector_BI: float32.
      batch: with similarities as labels, from -1 to 1.
      distil_coef: d.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, for the first term. The others are
      our choice.
    """
    target_B = jnp.asarray(batch.label_B).astype(jnp.float32)
    task_B = jnp.square(similarity_to_partner(vector_BI) - target_B)
    teacher_BI = get_teacher_logits(batch, distil_coef)
    if teacher_BI is None:
        return task_B
    unit_BI, teacher_BI = unit_vectors(vector_BI), unit_vectors(jnp.asarray(teacher_BI))
    real_B = (jnp.asarray(batch.example_id_B) >= 0).astype(jnp.float32)
    is_other_BB = real_B[None] * (1.0 - jnp.eye(len(real_B), dtype=jnp.float32))
    gap_BB = jnp.square(unit_BI @ unit_BI.T - teacher_BI @ teacher_BI.T)
    num_others_B = jnp.maximum(1.0, jnp.sum(is_other_BB, axis=1))
    pairwise_B = jnp.sum(is_other_BB * gap_BB, axis=1) / num_others_B
    soft_B = 1.0 - jnp.sum(unit_BI * teacher_BI, axis=-1) + pairwise_B
    return (1.0 - distil_coef) * task_B + distil_coef * soft_B


def vector_length(vector_BI: Array, batch: Batch) -> Array:
    """Return the length of each vector, float32 [B], the number whose gradient is the saliency.

    Its gradient is the vector's own direction: a token matters by what it adds in this direction.
    The cosine with the vector itself has no gradient. This is our choice: AdapLeR's paper has
    classification alone.
    """
    del batch
    return jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(vector_BI), axis=-1), MIN_NORM**2))


def embedding(
    pooling: str = MEAN,
    normalizes: bool = True,
    dense_dim: int = 0,
    dense_activation: str = TANH,
) -> Head:
    """Return the head for the vector of a text.

    The logits are the vector before it is normalised: a length of 1 has no saliency.

    Args:
      pooling: "mean" of the tokens that are left, or "cls".
      normalizes: the vectors that users receive have length 1.
      dense_dim: outputs of a dense layer after the pooling; 0 for none.
      dense_activation: of this layer, "identity" or "tanh".

    Raises:
      ValueError: a name is unknown.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r:.60}; expected {' or '.join(POOLINGS)}")
    if dense_activation not in DENSE_ACTIVATIONS:
        raise ValueError(
            f"dense_activation is {dense_activation!r:.60}; "
            f"expected {' or '.join(DENSE_ACTIVATIONS)}"
        )
    return _embedding(pooling, normalizes, dense_dim, dense_activation if dense_dim else TANH)


# one object for equal arguments in any form, so that compiled programs are found again
@functools.cache
def _embedding(pooling: str, normalizes: bool, dense_dim: int, dense_activation: str) -> Head:
    """Return the head of `embedding`."""

    def init(key: Array, config: EncoderConfig, num_classes: int) -> Params:
        """Return a fresh dense layer (D, I), if there is one."""
        del num_classes
        if not dense_dim:
            return {}
        return {"dense": init_linear(key, (config.hidden_dim, dense_dim), config.init_std)}

    def apply(
        params: Params,
        config: EncoderConfig,
        states: Array,
        batch: Batch | None = None,
        key: Array | None = None,
    ) -> Array:
        """Return the vectors before they are normalised, float32 [B, I]. No dropout."""
        del config, key
        if pooling == MEAN:
            assert batch is not None
            states = mean_of_left(states, batch.valid_BL, batch.survival_BL)
        if dense_dim:
            states = linear(params["dense"], states)
            states = jnp.tanh(states) if dense_activation == TANH else states
        return states

    def count_flops(params: Params, config: EncoderConfig, length_B):
        """Return the operations of pooling and dense layer."""
        del params
        dense = flops.linear_flops(config.hidden_dim, dense_dim) if dense_dim else 0
        return config.hidden_dim * (length_B if pooling == MEAN else 1) + dense

    kwargs: tuple[tuple[str, Any], ...] = (("pooling", pooling), ("normalizes", normalizes))
    if dense_dim:
        kwargs += (("dense_dim", dense_dim), ("dense_activation", dense_activation))
    return Head(
        name="embedding",
        needs_all_states=pooling == MEAN,
        init=init,
        apply=apply,
        loss_fn=embedding_losses,
        target_logit=vector_length,
        accuracy_fn=None,
        flops=count_flops,
        logits_shape=lambda config, length, num_classes: (dense_dim or config.hidden_dim,),
        factory_kwargs=kwargs,
    )
