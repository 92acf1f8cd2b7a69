"""Time a run's models next to the dense model."""

import numpy as np

from adapler_jax.data.batching.lengths import bucket_for
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.tokenization.tokens import Tokenized
from adapler_jax.evaluation.models import compare_speed
from adapler_jax.pruning import Pruner
from adapler_jax.weights.save import Saved

NUM_TIMED_TEXTS = {1: 32, 32: 128}  # batch size -> texts of one round
NUM_ROUNDS = 5


def mixed_batches(tokenized: Tokenized, batch_size: int, lengths) -> list:
    """Return full batches of a seeded sample in arrival order.

    Texts repeat where there are too few. Each batch is padded to the first length for its longest
    text.
    """
    rows = np.resize(
        np.random.default_rng(0).permutation(len(tokenized.labels)), NUM_TIMED_TEXTS[batch_size]
    )
    batches = []
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        texts = [tokenized.tokens[row] for row in chosen]
        batches.append(
            pad_batch(
                texts,
                [tokenized.segments[row] for row in chosen],
                length=bucket_for(max(len(text) for text in texts), lengths),
                batch_size=batch_size,
                head_slots={name: slots[chosen] for name, slots in tokenized.head_slots.items()},
            )
        )
    return batches


def own_lengths(pruner: Pruner, lengths) -> tuple[int, ...]:
    """Return the lengths that a model's batches are padded to.

    Pruned models need one: their drivers omit padding, and one length saves compilations.
    """
    return tuple(lengths[-1:] if pruner.sites else lengths)


def time_model(
    pruned: Saved, dense: Saved, pruner: Pruner, tokenized: Tokenized, lengths, *, engine: dict
) -> dict:
    """Return milliseconds and speedups over dense BERT at batch sizes 1 and 32, as columns.

    Both models take turns on equal texts in arrival order in one run. Values are medians, without
    compilation. `executed_speedup_32` is the ratio of the operations that ran (`executed_flops`),
    with padding on both sides.

    Args:
      engine: keywords of `make_engine`.
    """
    columns = {}
    for batch_size in NUM_TIMED_TEXTS:
        dense_batches = mixed_batches(tokenized, batch_size, lengths)
        batches = mixed_batches(tokenized, batch_size, own_lengths(pruner, lengths))
        found = compare_speed(
            pruned.params,
            dense.params,
            pruned.config,
            pruner,
            batches,
            head=pruned.head,
            dense_batches=dense_batches,
            dense_config=dense.config,
            repeats=NUM_ROUNDS,
            **engine,
        )
        columns |= {
            f"wall_ms_{batch_size}": 1e3 * found.pruned.median_s / NUM_TIMED_TEXTS[batch_size],
            f"dense_wall_ms_{batch_size}": 1e3 * found.dense.median_s / NUM_TIMED_TEXTS[batch_size],
            f"wall_speedup_{batch_size}": found.wall_speedup,
            f"executed_speedup_{batch_size}": found.executed_flops_speedup,
            f"driver_{batch_size}": found.driver,
        }
    return columns
