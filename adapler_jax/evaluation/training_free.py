"""Make a model of classes, scores or vectors faster without training, from unlabelled text.

Shape letters:

    E examples of a set
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.evaluation.attribution import input_saliency
from adapler_jax.evaluation.models import lengths_of
from adapler_jax.evaluation.passes import join_passes, run_batches
from adapler_jax.evaluation.shares import solve_shares
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL, TOKEN_CLASSIFICATION, Head
from adapler_jax.metrics.classification import sigmoid
from adapler_jax.metrics.similarity import cosines
from adapler_jax.pruning import Pruner, keep_all, make_pruner
from adapler_jax.pruning.base import for_first_token
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig, Params

TRAINING_FREE = ("attention", "vocabulary")
# Of `share_profile`, tried where a method has several sites.
STEEPNESS = (1.0, 1.5)
MAX_TEXTS = 2000  # whose saliency is measured
MAX_COMPARED = 1000  # texts on which profiles are compared
PRIOR_COUNT = 1.0  # occurrences at the mean of all entries that every entry has in addition


def prune_without_training(
    params: Params,
    config: EncoderConfig,
    batches: Sequence[Batch],
    *,
    method: str,
    speedup: float,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
    saliency_V: np.ndarray | None = None,
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
      saliency_V: of an earlier call of `vocabulary_saliency`; None to measure it on these texts.

    Raises:
      ValueError: the method is another one, does not fit the head, or does not reach the speedup.
    """
    if method not in TRAINING_FREE:
        raise ValueError(f"method is {method!r:.60}; expected {' or '.join(TRAINING_FREE)}")
    check_head(method, head)
    if not batches:
        raise ValueError(f"there is no text; method {method} needs unlabelled text of the task")
    pruner = make_pruner(method, config)
    found = pruner.init(jax.random.key(0), config)
    if method == "vocabulary":
        if saliency_V is None:
            saliency_V = vocabulary_saliency(params, config, batches, head=head, dtype=dtype)
        found["saliency_JV"] = jnp.asarray(saliency_V)[None]
    params = params | {"pruner": found}
    solve = functools.partial(
        solve_shares,
        params,
        config,
        pruner,
        lengths_of(batches),
        speedup=speedup,
        protected_E=protected_counts(head, batches),
        head=head,
    )
    running = pruner if head.needs_all_states else for_first_token(pruner, config)
    num_running = len(running.sites)
    shares = [jnp.asarray(solve(steepness=value)) for value in STEEPNESS[:num_running]]
    tried = [params | {"pruner": found | {"share_J": share_J}} for share_J in shares]
    if len(tried) == 1:
        return tried[0], pruner
    run = functools.partial(run_sample, config=config, batches=batches, head=head, dtype=dtype)
    full_EC = run(params, keep_all())
    return min(tried, key=lambda params: distance(head, run(params, pruner), full_EC)), pruner


def protected_counts(head: Head, batches: Sequence[Batch]) -> np.ndarray | int:
    """Return the protected tokens of every real example, int64 [E]; 0 if no token is protected."""
    counts = []
    for batch in batches:
        protected_BL = head.protected_tokens(batch)
        if protected_BL is None:
            return 0
        is_real_B = np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID
        counts.append(np.asarray(protected_BL).sum(axis=1, dtype=np.int64)[is_real_B])
    return np.concatenate(counts)


def run_sample(
    params: Params,
    pruner: Pruner,
    *,
    config: EncoderConfig,
    batches: Sequence[Batch],
    head: Head,
    dtype: DTypeLike,
) -> np.ndarray:
    """Return the logits of about MAX_COMPARED of the texts, float32 [E, C]."""
    sample = spread(batches, MAX_COMPARED)
    found = run_batches(params, config, pruner, sample, head=head, dtype=dtype)
    return join_passes(found).logit_EC


def distance(head: Head, logits_EC: np.ndarray, full_EC: np.ndarray) -> float:
    """Return how far a model's answers are from the full model's.

    It is the fraction of texts with another class, the mean difference of labels' probabilities,
    the mean squared difference of numbers, or 1 minus the mean cosine of vectors.
    """
    if head.name == "embedding":
        return 1.0 - float(np.mean(cosines(logits_EC, full_EC)))
    if head.name == CLASSIFICATION.name:
        return float(np.mean(np.argmax(logits_EC, axis=-1) != np.argmax(full_EC, axis=-1)))
    if head.name == MULTI_LABEL.name:
        return float(np.mean(np.abs(sigmoid(logits_EC) - sigmoid(full_EC))))
    return float(np.mean((logits_EC - full_EC) ** 2))


def check_head(method: str, head: Head) -> None:
    """Raise ValueError unless the head has classes, labels, numbers or a vector of texts."""
    is_of_texts = head.has_classes and head is not TOKEN_CLASSIFICATION
    if not is_of_texts and head.name not in ("regression", "embedding"):
        raise ValueError(
            f"method {method} is for classes, labels, scores and vectors of texts; this model has "
            f"{head.name}"
        )


def spread(batches: Sequence[Batch], num_texts: int) -> list[Batch]:
    """Return about so many texts: every k-th batch, since batches may be sorted by length."""
    step = max(1, -(-len(lengths_of(batches)) // num_texts))
    return [batches[index] for index in range(step // 2, len(batches), step)]


def predicted_logit(head: Head) -> Callable:
    """Return a function (logits [B, C], Batch) -> the logit of the model's own answer, float32 [B].

    It is the largest logit. Of several labels it is the mean size of their logits.
    """

    def take(logits_BC, batch: Batch):
        """Return the logits of a batch."""
        del batch
        if head.name == MULTI_LABEL.name:
            return jnp.mean(jnp.abs(logits_BC), axis=-1)
        return jnp.max(logits_BC, axis=-1)

    return take


def vocabulary_saliency(
    params: Params,
    config: EncoderConfig,
    batches: Sequence[Batch],
    *,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
) -> np.ndarray:
    """Return the mean saliency of each vocabulary entry in these texts, float32 [V].

        s_i = n S_i / sum_j S_j,   S gradient times input of `predicted_logit`
        t_v = (sum_i s_i + c m) / (count + c),   over the occurrences i of entry v, c = 1

    n is the number of tokens of a text, so that every text has the mean 1. m is the mean of the
    entries that occur; entries that do not occur have it too.

    Args:
      params: of the whole model.
      config: of the encoder.
      batches: of texts, of which about MAX_TEXTS are taken; no label is used.
      head: of the model.
      dtype: of the operands of the encoder's products.
    """

    @jax.jit
    def measure(params, batch):
        """Return the saliency of a batch."""
        has_right = head.name not in ("regression", "embedding")
        target = predicted_logit(head) if has_right else head.target_logit
        return input_saliency(params, config, batch, target=target, dtype=dtype, head=head)[0]

    total_V, count_V = np.zeros(config.vocab_size), np.zeros(config.vocab_size)
    for batch in spread(batches, MAX_TEXTS):
        is_real_B1 = (np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID)[:, None]
        counted_BL = np.asarray(batch.valid_BL) & is_real_B1
        saliency_BL = np.asarray(measure(params, batch), np.float64)
        sum_B1 = np.maximum(saliency_BL.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        relative_BL = saliency_BL * counted_BL.sum(axis=1, keepdims=True) / sum_B1
        token_X = np.asarray(batch.token_BL)[counted_BL]
        np.add.at(total_V, token_X, relative_BL[counted_BL])
        np.add.at(count_V, token_X, 1.0)
    occurs_V = count_V > 0
    mean = np.mean(total_V[occurs_V] / count_V[occurs_V])
    return ((total_V + PRIOR_COUNT * mean) / (count_V + PRIOR_COUNT)).astype(np.float32)
