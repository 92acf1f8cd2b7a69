"""Run a model over batches of texts, and keep its logits and counts of the real examples.

Shape letters:

    E examples of a batch
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax import flops
from adapler_jax.evaluation.models import flops_of_examples, token_counts
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.engine import make_engine, prepare_params_for
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig, Params
from adapler_jax.weights.save import Saved
from adapler_jax.weights.students import full_config


class Pass(NamedTuple):
    """The output for the real examples of a batch."""

    count_NE: np.ndarray  # int64, tokens that each layer ran on
    length_E: np.ndarray  # int64
    logit_EC: np.ndarray  # float32


def run_batches(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Iterable[Batch],
    *,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
    driver: str = "masked",
) -> Iterator[Pass]:
    """Yield the output for each batch, without padding examples.

    Args:
      params: of the whole model.
      config: of the encoder.
      pruner: of the model.
      batches: of texts.
      head: of the model, with logits [B, C].
      dtype: of the operands of the encoder's products.
      driver: as of `make_engine`; all give equal results.
    """
    run = make_engine(config, pruner, driver=driver, head=head, dtype=dtype)
    params = prepare_params_for(driver, params, config, dtype)
    for batch in batches:
        logits_BC, trace = run(params, batch)
        is_real_B = np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID
        yield Pass(
            token_counts(trace, batch, config)[:, is_real_B],
            np.asarray(batch.valid_BL).sum(axis=1, dtype=np.int64)[is_real_B],
            np.asarray(logits_BC)[is_real_B],
        )


def run_saved(
    saved: Saved,
    batches: Iterable[Batch],
    *,
    dtype: DTypeLike = jnp.float32,
    driver: str = "masked",
) -> tuple[np.ndarray, float]:
    """Return a saved model's logits, float32 [E, C], and its FLOPs speedup on true tokens.

    Args:
      saved: the model; a student's speedup is over the full model.
      batches: of texts.
      dtype: as in `run_batches`.
      driver: as in `run_batches`.
    """
    pruner, head = pruner_of_saved(saved), saved.head
    model = saved.params, saved.config, pruner
    found = join_passes(run_batches(*model, batches, head=head, dtype=dtype, driver=driver))
    spent_E = flops_of_examples(
        *model, found.length_E, found.count_NE, head=head, dense_config=full_config(saved)
    )
    return found.logit_EC, flops.speedup(*spent_E)


def join_passes(passes: Iterable[Pass]) -> Pass:
    """Return the outputs for all batches as one."""
    count_NE, length_E, logits_EC = zip(*passes)
    return Pass(
        np.concatenate(count_NE, axis=1), np.concatenate(length_E), np.concatenate(logits_EC)
    )
