"""Time a run's models and the dense one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapler_jax.data.batching.lengths import bucket_for
from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.evaluation.models import compare_speed
from adapler_jax.pruning import Pruner
from adapler_jax.types import Batch
from adapler_jax.weights.save import Saved

NUM_TIMED_TEXTS = {1: 32, 32: 128}  # batch size -> texts of one round
NUM_ROUNDS = 5


def mixed_batches(tokenized: Tokenized, batch_size: int, lengths: Sequence[int]) -> list[Batch]:
    """Return full batches of a seeded sample in arrival order.

    Texts are repeated if there are too few.

    Args:
      tokenized: the texts.
      batch_size: texts of a batch.
      lengths: a batch is padded to the first one that holds its longest text.
    """
    permutation = np.random.default_rng(0).permutation(len(tokenized.labels))
    rows = np.resize(permutation, NUM_TIMED_TEXTS[batch_size])
    batches = []
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        texts = [tokenized.tokens[row] for row in chosen.tolist()]
        batches.append(
            pad_batch(
                texts,
                [tokenized.segments[row] for row in chosen.tolist()],
                length=bucket_for(max(len(text) for text in texts), lengths),
                batch_size=batch_size,
                head_slots={name: slots[chosen] for name, slots in tokenized.head_slots.items()},
            )
        )
    return batches


def own_lengths(pruner: Pruner, lengths: Sequence[int]) -> tuple[int, ...]:
    """Return the padded lengths of a model's batches.

    Drivers that drop tokens skip padding by themselves, and one length saves compilations. Plain
    encoders use all lengths.
    """
    return tuple(lengths[-1:] if pruner.sites else lengths)


def time_model(
    pruned: Saved,
    dense: Saved,
    pruner: Pruner,
    tokenized: Tokenized,
    lengths: Sequence[int],
    *,
    engine: dict[str, Any],
) -> dict[str, Any]:
    """Return milliseconds a row and speedups over dense BERT at batch 1 and 32.

    Both models take turns on the same texts in arrival order in one run. Numbers are medians
    without compilation. `executed_speedup_32` is the ratio of operations that ran
    (`executed_flops`), with padding on both sides. `padding_speedup_32` is what dense BERT
    alone would gain without its padding, in operations.

    Args:
      pruned: the model.
      dense: the dense model.
      pruner: of the model.
      tokenized: the texts.
      lengths: padded lengths of the dense model's batches.
      engine: keywords of `make_engine`.
    """
    columns: dict[str, Any] = {}
    for batch_size, num_texts in NUM_TIMED_TEXTS.items():
        found = compare_speed(
            pruned.params,
            dense.params,
            pruned.config,
            pruner,
            mixed_batches(tokenized, batch_size, own_lengths(pruner, lengths)),
            head=pruned.head,
            dense_batches=mixed_batches(tokenized, batch_size, lengths),
            dense_config=dense.config,
            repeats=NUM_ROUNDS,
            **engine,
        )
        columns |= {
            f"wall_ms_{batch_size}": 1e3 * found.pruned.median_s / num_texts,
            f"dense_wall_ms_{batch_size}": 1e3 * found.dense.median_s / num_texts,
            f"wall_speedup_{batch_size}": found.wall_speedup,
            f"executed_speedup_{batch_size}": found.executed_flops_speedup,
            f"padding_speedup_{batch_size}": found.padding_speedup,
            f"driver_{batch_size}": found.driver,
        }
    return columns
