"""Choose PoWER-BERT's counts for a target speedup, from the weights of ranks and text lengths."""

from collections.abc import Callable

import numpy as np

from adapler_jax import flops, model_flops
from adapler_jax.heads import Head
from adapler_jax.pruning import Pruner
from adapler_jax.types import EncoderConfig, Params

Counts = tuple[int, ...]
TIE_WEIGHT = 1e-6  # less than one step of training moves a weight


def ranks_by_weight(rank_weight_NL) -> np.ndarray:
    """Return the ranks of all layers in the order in which they are retained, int64 [N * L].

    An entry is layer * L + rank. Of equal weights the later layers and the later ranks are last:

        w[l, j] - 1e-6 (j / L + l / N)
    """
    weight_NL = np.asarray(rank_weight_NL, np.float64)
    N, L = weight_NL.shape
    tie_NL = np.arange(N)[:, None] / N + np.arange(L)[None] / L
    return np.argsort(-(weight_NL - TIE_WEIGHT * tie_NL), axis=None, kind="stable")


def counts_of_first(order: np.ndarray, num_retained: int, shape: tuple[int, int]) -> Counts:
    """Return the counts of the layers where the first ranks of an order are retained.

    A layer retains at least 1 and at most as many as the layer before.

    Args:
      order: of `ranks_by_weight`.
      num_retained: ranks of all layers together.
      shape: layers and ranks.
    """
    num_layers, num_ranks = shape
    count_N = np.bincount(order[:num_retained] // num_ranks, minlength=num_layers)
    return tuple(np.minimum.accumulate(np.maximum(1, count_N)).tolist())


def counts_for_speedup(
    rank_weight_NL, target: float, speedup_of: Callable[[Counts], float]
) -> Counts:
    """Return the largest counts with the target speedup, by one threshold on all weights of ranks.

    Where counts of 1 do not reach the target, the result is counts of 1.

    Args:
      rank_weight_NL: weights of the ranks.
      target: FLOPs speedup.
      speedup_of: counts -> FLOPs speedup; larger counts have no larger one.
    """
    shape = np.shape(rank_weight_NL)
    order = ranks_by_weight(rank_weight_NL)
    low, high = 0, len(order) + 1  # of ranks retained: low is fast enough or the limit, high not
    while high - low > 1:
        middle = (low + high) // 2
        if speedup_of(counts_of_first(order, middle, shape)) < target:
            high = middle
        else:
            low = middle
    return counts_of_first(order, low, shape)


def make_speedup_of(
    params: Params, config: EncoderConfig, pruner: Pruner, length_E: np.ndarray, *, head: Head
) -> Callable[[Counts], float]:
    """Return a function counts -> FLOPs speedup of texts, where a text of n tokens keeps at most n.

    Args:
      params: of the whole model.
      config: of the encoder.
      pruner: PoWER-BERT.
      length_E: int, tokens of each text.
      head: of the model.
    """
    length_E, times_E = np.unique(length_E, return_counts=True)  # each length once
    options = head.flops_options(params, config, length_E)
    dense_E = model_flops.dense_flops(config, length_E, **options)

    def speedup_of(counts):
        count_NE = np.minimum(np.array(counts)[:, None], length_E)
        pruned_E = model_flops.pruned_flops(config, pruner, params, length_E, count_NE, **options)
        return flops.speedup(dense_E * times_E, pruned_E * times_E)

    return speedup_of
