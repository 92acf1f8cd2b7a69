"""Make a fine-tuned model faster without training: shares from lengths, saliency of a vocabulary.

Shape letters:

    E examples of a set
    K budgets, increasing; the last is 1
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.evaluation.attribution import layer_saliency
from adapler_jax.evaluation.models import true_speedup
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.pruning import Pruner, make_pruner
from adapler_jax.pruning.shares import kept_counts
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig, Params

TRAINING_FREE = ("attention", "vocabulary")
NUM_BISECTIONS = 40
PRIOR_COUNT = 1.0  # occurrences that a vocabulary entry has, in effect, at the mean of all entries


def prune_without_training(
    params: Params,
    config: EncoderConfig,
    batches: Sequence[Batch],
    *,
    method: str,
    speedup: float,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Params, Pruner]:
    """Return a fine-tuned model that drops tokens to a speedup, and its pruner.

    No step of training is made and no label is used.

    Args:
      params: of the whole model; its pruner is replaced.
      config: of the encoder.
      batches: of texts of the task.
      method: one of TRAINING_FREE.
      speedup: FLOPs speedup on true tokens of texts with these lengths.
      head: of the model.
      dtype: of the operands of the encoder's products.

    Raises:
      ValueError: the method is another one, does not fit the head, or does not reach the speedup.
    """
    if method not in TRAINING_FREE:
        raise ValueError(f"method is {method!r:.60}; expected {' or '.join(TRAINING_FREE)}")
    pruner = make_pruner(method, config)
    found = {"share_J": jnp.ones((len(pruner.sites),), jnp.float32)}
    if method == "vocabulary":
        if head is not CLASSIFICATION:
            raise ValueError(f"method vocabulary is for classes of texts; the head is {head.name}")
        saliency_V = vocabulary_saliency(params, config, batches, dtype=dtype)
        found["saliency_JV"] = jnp.asarray(saliency_V)[None]
    params = params | {"pruner": found}
    share_J = solve_shares(params, config, pruner, lengths_of(batches), speedup=speedup, head=head)
    return params | {"pruner": found | {"share_J": jnp.asarray(share_J)}}, pruner


def lengths_of(batches: Sequence[Batch]) -> np.ndarray:
    """Return the tokens of every real example, int64 [E]."""
    return np.concatenate(
        [
            np.asarray(batch.valid_BL).sum(axis=1, dtype=np.int64)[
                np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID
            ]
            for batch in batches
        ]
    )


def share_profile(pruner: Pruner, share: float, head: Head) -> np.ndarray:
    """Return the share of each site, float32 [J], equal but for the last layer.

    After the attention of the last layer a head that reads [CLS] needs no other token.
    """
    share_J = np.full(len(pruner.sites), share, np.float32)
    if pruner.name == "attention" and not head.needs_all_states and share < 1.0:
        share_J[-1] = 0.0
    return share_J


def share_counts(
    pruner: Pruner, share_J: np.ndarray, length_E: np.ndarray, num_layers: int
) -> np.ndarray:
    """Return the tokens that each layer runs on, int64 [N, E]; lengths alone decide them."""
    share_of = {site.layer: share for site, share in zip(pruner.sites, share_J, strict=True)}
    counts, count_E = [], np.asarray(length_E)
    for layer in range(num_layers):
        if layer in share_of:
            count_E = np.asarray(kept_counts(count_E, share_of[layer])).astype(np.int64)
        counts.append(count_E)
    return np.stack(counts)


def solve_shares(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    *,
    speedup: float,
    head: Head = CLASSIFICATION,
) -> np.ndarray:
    """Return the shares of each site that give texts of these lengths a FLOPs speedup.

    Raises:
      ValueError: the speedup is no number of 1 or more, or no share reaches it.
    """

    def speedup_of(share: float) -> float:
        """Return the FLOPs speedup with a share."""
        share_J = share_profile(pruner, share, head)
        count_NE = share_counts(pruner, share_J, length_E, config.num_layers)
        return true_speedup(params, config, pruner, length_E, count_NE, head=head)

    if not (np.isfinite(speedup) and speedup >= 1.0):
        raise ValueError(f"speedup is {speedup}; expected a factor of 1 or more")
    if speedup == 1.0:
        return share_profile(pruner, 1.0, head)
    if (highest := speedup_of(0.0)) < speedup:
        raise ValueError(
            f"{pruner.name}: {speedup:g}x is out of reach; with [CLS] alone these texts have "
            f"{highest:.2f}x"
        )
    share = _bisect(lambda share: -speedup_of(share), -speedup)
    return share_profile(pruner, share, head)


def budget_shares(
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    budgets: Sequence[float],
    *,
    head: Head = CLASSIFICATION,
) -> np.ndarray:
    """Return the share of every site at every budget, float32 [J, K].

    A budget is the mean over layers of the tokens that a layer runs on, as a fraction of the tokens
    of the texts.
    """

    def kept_share(share: float) -> float:
        """Return the kept share of texts with these lengths."""
        share_J = share_profile(pruner, share, head)
        count_NE = share_counts(pruner, share_J, length_E, config.num_layers)
        return float(count_NE.sum() / (config.num_layers * length_E.sum()))

    shares = [_bisect(kept_share, budget) if budget < 1.0 else 1.0 for budget in budgets]
    return np.stack([share_profile(pruner, share, head) for share in shares], axis=1)


def _bisect(function: Callable[[float], float], target: float) -> float:
    """Return the number in [0, 1) from which a rising function is at the target or below it."""
    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if function(middle) > target else (middle, high)
    return low


def vocabulary_saliency(
    params: Params,
    config: EncoderConfig,
    batches: Sequence[Batch],
    *,
    dtype: DTypeLike = jnp.float32,
) -> np.ndarray:
    """Return the mean saliency of each vocabulary entry in these texts, float32 [V].

        s_i = n S_i / sum_j S_j,   S gradient times input for the predicted class
        t_v = (sum_i s_i + c m) / (count + c),   over the occurrences i of entry v, c = 1

    n is the number of tokens of a text, so that every text has the mean 1. m is the mean of the
    entries that occur; entries that do not occur have it too.

    Args:
      params: of the whole model.
      config: of the encoder.
      batches: of texts; no label is used.
      dtype: of the operands of the encoder's products.
    """
    measure = jax.jit(lambda batch: layer_saliency(params, config, batch, dtype=dtype)[0][0])
    total_V, count_V = np.zeros(config.vocab_size), np.zeros(config.vocab_size)
    for batch in batches:
        is_real_B1 = (np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID)[:, None]
        counted_BL = np.asarray(batch.valid_BL) & is_real_B1
        saliency_BL = np.asarray(measure(batch), np.float64)
        sum_B1 = np.maximum(saliency_BL.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        relative_BL = saliency_BL * counted_BL.sum(axis=1, keepdims=True) / sum_B1
        token_X = np.asarray(batch.token_BL)[counted_BL]
        np.add.at(total_V, token_X, relative_BL[counted_BL])
        np.add.at(count_V, token_X, 1.0)
    occurs_V = count_V > 0
    if not occurs_V.any():
        raise ValueError("there is no text; vocabulary saliency needs unlabelled text of the task")
    mean = np.mean(total_V[occurs_V] / count_V[occurs_V])
    return ((total_V + PRIOR_COUNT * mean) / (count_V + PRIOR_COUNT)).astype(np.float32)
