"""The mean of a text's states in place of the state of [CLS], for heads with a pooler."""

import functools

from adapler_jax.heads.base import Head
from adapler_jax.heads.classification import classify
from adapler_jax.heads.embedding import CLS, MEAN, POOLINGS, mean_of_left
from adapler_jax.types import Array, Batch, EncoderConfig, Params

POOLING = "pooling"  # of factory_kwargs


@functools.cache
def with_pooling(head: Head, pooling: str) -> Head:
    """Return a head of [CLS] that reads the mean of the tokens that are left, or itself for "cls".

    The mean is `embedding.mean_of_left`.

    Args:
      head: whose `apply` is `classification.classify`.
      pooling: "mean" or "cls".

    Raises:
      ValueError: there is no such pooling.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r:.60}; expected {' or '.join(POOLINGS)}")
    if pooling == CLS:
        return head

    def apply(
        params: Params,
        config: EncoderConfig,
        states: Array,
        batch: Batch | None = None,
        key: Array | None = None,
    ) -> Array:
        """Return the logits of the mean state, float32 [B, C]."""
        assert batch is not None
        mean_BD = mean_of_left(states, batch.valid_BL, batch.survival_BL)
        return classify(params, config, mean_BD, batch, key)

    def count_flops(params: Params, config: EncoderConfig, length_B):
        """Return the operations of the sum over the tokens, and of the head."""
        return config.hidden_dim * length_B + head.flops(params, config, length_B)

    return head._replace(
        needs_all_states=True,
        apply=apply,
        flops=count_flops,
        factory_kwargs=(*head.factory_kwargs, (POOLING, MEAN)),
    )


def pooling_of(head: Head) -> str:
    """Return the pooling of a head with a pooler."""
    return dict(head.factory_kwargs).get(POOLING, CLS)
