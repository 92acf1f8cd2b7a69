"""Evaluate a model on a labelled set: its score, and the operations and seconds that it saves.

Shape letters:

    E examples of a set
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops, model_flops
from adapler_jax.evaluation.scoring import ClassScorer, Scorer
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.autotune.timing import Timing, median_speedup, time_interleaved
from adapler_jax.inference.engine import (
    AUTO,
    EngineOptions,
    make_engine,
    prepare_inference_params,
    prepare_params_for,
)
from adapler_jax.inference.executed_flops import executed_flops, padded_flops
from adapler_jax.pruning import Pruner, keep_all
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig, Params, Trace


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of a model on a set, without padding examples, in the order of the batches."""

    scores: dict[str, float]  # of the scorer, in [0, 1], the main one as `score`
    # Mean loss, in nats: steadier than a score for comparisons on few examples.
    nll: float
    flops_speedup: float  # dense over pruned operations, without padding
    executed_flops_speedup: float  # dense over pruned operations that ran, see `executed_flops`
    text_speedup_E: np.ndarray  # dense over pruned operations of each example
    kept_tokens: tuple[float, ...]  # mean number of tokens that each layer ran on
    example_id_E: np.ndarray
    length_E: np.ndarray  # tokens
    count_NE: np.ndarray  # tokens that each layer ran on

    @property
    def score(self) -> float:
        """Return the main score, by which models are selected."""
        return self.scores["score"]


@dataclasses.dataclass(frozen=True)
class SpeedComparison:
    """A pruned model compared with plain BERT of the same sizes on the same batches, in one run."""

    dense: Timing  # of all batches
    pruned: Timing
    wall_speedup: float
    executed_flops_speedup: float
    padding_speedup: float  # dense operations that ran over dense operations of the true tokens
    driver: str  # of the pruned model; joined by "+" if batches had different drivers


class _BatchColumns(NamedTuple):
    """Results of the examples of one batch, or of a set; axis -1 is the example."""

    nll_E: np.ndarray
    example_id_E: np.ndarray
    length_E: np.ndarray
    count_NE: np.ndarray


def evaluate_model(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Iterable[Batch],
    *,
    scorer: Scorer | None = None,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
    **options: Unpack[EngineOptions],
) -> Evaluation:
    """Run a model over batches under the hard rule.

    Args:
      params: of the whole model, encoder layers stacked.
      config: of the encoder.
      pruner: of the model.
      batches: padded batches with labels.
      scorer: None for the accuracy of classes.
      head: computes the logits.
      dense_config: encoder that speedups are relative to; None for this one.
      **options: as in `make_engine`.

    Returns:
      Scores and speedups.

    Raises:
      ValueError: there is no example.
    """
    scorer = scorer or ClassScorer()
    run = make_engine(config, pruner, head=head, **options)
    # `compare_speed` prepares parameters equally, so that both share their compiled programs.
    params = _prepare_params(params, config, options)
    count_executed = functools.partial(executed_flops, head=head, dense_config=dense_config)
    parts, executed = [], np.zeros(2, np.int64)
    for batch in batches:
        logits, trace = run(params, batch)
        count_NB = token_counts(trace, batch, config)
        choice = run.select_driver(*batch.token_BL.shape)
        executed += count_executed(params, config, pruner, batch, count_NB, choice=choice)
        is_real_B = np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID
        scorer.add(jax.device_get(logits), batch, is_real_B)
        parts.append(_columns_of(head, logits, batch, count_NB, is_real_B))
    if not parts:
        raise ValueError("there are no batches to evaluate; give a split with at least one example")
    nll_E, example_id_E, length_E, count_NE = (np.concatenate(x, axis=-1) for x in zip(*parts))
    dense_E, pruned_E = flops_of_examples(
        params, config, pruner, length_E, count_NE, head=head, dense_config=dense_config
    )
    return Evaluation(
        scores=scorer.scores(),
        nll=float(nll_E.mean()),
        flops_speedup=flops.speedup(dense_E, pruned_E),
        executed_flops_speedup=float(executed[0] / executed[1]),
        text_speedup_E=dense_E / pruned_E,
        kept_tokens=tuple(count_NE.mean(axis=-1).tolist()),
        example_id_E=example_id_E,
        length_E=length_E,
        count_NE=count_NE,
    )


def _prepare_params(params: Params, config: EncoderConfig, options: EngineOptions) -> Params:
    """Return the parameters for an engine with these options."""
    driver, dtype = options.get("driver", AUTO), options.get("dtype", jnp.float32)
    return prepare_params_for(driver, params, config, dtype)


def _columns_of(
    head: Head, logits: Any, batch: Batch, count_NB: np.ndarray, is_real_B: np.ndarray
) -> _BatchColumns:
    """Return the results of the examples of a batch, without padding examples."""
    return _BatchColumns(
        nll_E=np.asarray(_loss_program(head)(logits, batch))[is_real_B],
        example_id_E=np.asarray(batch.example_id_B)[is_real_B],
        length_E=np.asarray(batch.valid_BL).sum(-1)[is_real_B],
        count_NE=count_NB[:, is_real_B],
    )


@functools.cache
def _loss_program(head: Head) -> Callable:
    """Return the jitted losses of a head, one object for each head, so that it compiles once."""
    return jax.jit(lambda logits, batch: head.loss_fn(logits, batch, 0.0))


def token_counts(trace: Trace, batch: Batch, config: EncoderConfig) -> np.ndarray:
    """Return the tokens that each layer ran on, int64 [N, B]; all tokens without sites."""
    if trace.count_NB is not None:
        return np.asarray(trace.count_NB, np.int64)
    length_B = np.asarray(batch.valid_BL).sum(-1, dtype=np.int64)
    return np.broadcast_to(length_B, (config.num_layers, len(length_B)))


def flops_of_examples(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    count_NE: np.ndarray,
    *,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return dense and pruned operations of each example without padding, both int64 [E].

    Args:
      params: of the whole model.
      config: of the encoder.
      pruner: of the model.
      length_E: int, tokens of each example.
      count_NE: int, tokens that each layer ran on.
      head: of the model.
      dense_config: of the dense encoder; None for the model's own.
    """
    options = head.flops_options(params, config, length_E)
    dense_E = model_flops.dense_flops(dense_config or config, length_E, **options)
    pruned_E = model_flops.pruned_flops(config, pruner, params, length_E, count_NE, **options)
    return dense_E, pruned_E


def true_speedup(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    count_NE: np.ndarray,
    *,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
) -> float:
    """Return dense over pruned operations of all examples; arguments as in `flops_of_examples`."""
    found = flops_of_examples(
        params, config, pruner, length_E, count_NE, head=head, dense_config=dense_config
    )
    return flops.speedup(*found)


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


def _dense_operations(
    params: Params, config: EncoderConfig, batches: Sequence[Batch], head: Head
) -> tuple[int, int]:
    """Return the operations of plain BERT on batches, with padding and without."""
    length_E = lengths_of(batches)
    options = head.flops_options(params, config, length_E)
    true_E = model_flops.dense_flops(config, length_E, **options)
    return sum(padded_flops(params, config, batch, head) for batch in batches), int(true_E.sum())


def compare_speed(
    params: Params,
    dense_params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Sequence[Batch],
    *,
    dense_batches: Sequence[Batch] | None = None,
    repeats: int = 7,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
    **options: Unpack[EngineOptions],
) -> SpeedComparison:
    """Time an engine and plain BERT on the same texts, as medians of interleaved repeats.

    A repeat is one pass over all batches; compilation is in the first call only.

    Args:
      params: of the whole model, encoder layers stacked.
      dense_params: of the unpruned model; the pruner's subtree has no effect.
      config: of the encoder.
      pruner: of the model.
      batches: texts of the pruned model.
      dense_batches: these texts padded to plain BERT's own lengths; None for `batches`.
      repeats: rounds that count.
      head: of both models.
      dense_config: of the dense encoder; None for `config`.
      **options: of the pruned model's engine, as in `make_engine`; plain BERT always runs padded.
    """
    dense_batches = jax.device_put(list(batches if dense_batches is None else dense_batches))
    batches = jax.device_put(list(batches))
    dense_config = dense_config or config
    run = make_engine(config, pruner, head=head, **options)
    dtype = options.get("dtype", jnp.float32)
    dense_run = make_engine(dense_config, keep_all(), dtype=dtype, driver="bucketed", head=head)
    plain_params = jax.device_put(dense_params | {"pruner": {}})
    dense_params = prepare_inference_params(plain_params, dense_config, dtype)
    params = _prepare_params(jax.device_put(params), config, options)
    timings = time_interleaved(
        {
            "dense": lambda: [dense_run(dense_params, batch)[0] for batch in dense_batches],
            "pruned": lambda: [run(params, batch)[0] for batch in batches],
        },
        repeats=repeats,
    )
    dense_spent, dense_true = _dense_operations(plain_params, dense_config, dense_batches, head)
    choices = [run.select_driver(*batch.token_BL.shape) for batch in batches]
    pruned_spent = 0
    for batch, choice in zip(batches, choices, strict=True):
        count_NB = token_counts(run(params, batch)[1], batch, config)
        spent = executed_flops(params, config, pruner, batch, count_NB, choice=choice, head=head)
        pruned_spent += int(spent[1])
    return SpeedComparison(
        dense=timings["dense"],
        pruned=timings["pruned"],
        wall_speedup=median_speedup(timings["dense"], timings["pruned"]),
        executed_flops_speedup=dense_spent / pruned_spent,
        padding_speedup=dense_spent / dense_true,
        driver="+".join(sorted({choice.driver for choice in choices})),
    )
