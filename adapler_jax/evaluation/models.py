"""A model on a labelled set: its score, and what its dropped tokens save in operations and in seconds."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops, model_flops
from adapler_jax.evaluation.scoring import ClassScorer, Scorer
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.autotune.timing import Timing, median_speedup, time_interleaved
from adapler_jax.inference.engine import (
    AUTO,
    make_engine,
    prepare_inference_params,
    prepare_params_for,
)
from adapler_jax.inference.executed_flops import executed_flops, padded_flops
from adapler_jax.pruning import Pruner, keep_all
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig, Params


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model did on a set; one entry an example, in the order of the batches, fillers left out."""

    scores: dict[str, float]  # of the scorer, in [0, 1], the main one as `score`
    nll: (
        float  # mean loss, in nats: steadier than a score where models are compared on few examples
    )
    flops_speedup: float  # dense over pruned operations, true token counts
    executed_flops_speedup: float  # the same for what ran, see `executed_flops`
    kept_tokens: tuple[float, ...]  # mean number of tokens that each layer ran on
    example_id_E: np.ndarray
    length_E: np.ndarray  # tokens
    count_NE: np.ndarray  # tokens that each layer ran on

    @property
    def score(self) -> float:
        """What models are chosen by."""
        return self.scores["score"]


@dataclasses.dataclass(frozen=True)
class SpeedComparison:
    """A pruned model against plain BERT of the same sizes on the same batches, in one run."""

    dense: Timing  # of all batches
    pruned: Timing
    wall_speedup: float
    executed_flops_speedup: float
    driver: (
        str  # that ran the pruned model; several, joined by "+", where batches had several shapes
    )


def evaluate_model(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Iterable[Batch],
    *,
    scorer: Scorer | None = None,
    head: Head = CLASSIFICATION,
    buckets: Sequence[int] | None = None,
    dtype=jnp.float32,
    driver: str = AUTO,
    autotune_table=None,
    expected_speedup: float | None = None,
    dense_config: EncoderConfig | None = None,
) -> Evaluation:
    """Runs a model over batches under the hard rule; scorer: None for the accuracy of classes, dense_config: that of
    the model which speedups are relative to where it is not this one without its pruner, the rest as in `make_engine`.

    Raises ValueError where there is no example.
    """
    scorer = scorer or ClassScorer()
    run = make_engine(
        config,
        pruner,
        buckets=buckets,
        dtype=dtype,
        driver=driver,
        autotune_table=autotune_table,
        expected_speedup=expected_speedup,
        head=head,
    )
    params = prepare_params_for(
        driver, params, config, dtype
    )  # as compare_speed does: its programs are then the same
    parts = []
    executed = np.zeros(2, np.int64)
    for batch in batches:
        logits, trace = run(params, batch)
        count_NB = token_counts(trace, batch, config)
        choice = run.choice(*batch.token_BL.shape)
        executed += executed_flops(
            params,
            config,
            pruner,
            batch,
            count_NB,
            choice=choice,
            head=head,
            dense_config=dense_config,
        )
        real_B = batch.example_id_B != PADDING_EXAMPLE_ID
        scorer.add(jax.device_get(logits), batch, real_B)
        columns = (
            _losses_of(head)(logits, batch),
            batch.example_id_B,
            batch.valid_BL.sum(-1),
            count_NB,
        )
        parts.append([np.asarray(column)[..., real_B] for column in columns])
    if not parts:
        raise ValueError("there are no batches to evaluate; give a split with at least one example")
    nll_E, example_id_E, length_E, count_NE = (np.concatenate(x, axis=-1) for x in zip(*parts))
    return Evaluation(
        scores=scorer.scores(),
        nll=float(nll_E.mean()),
        flops_speedup=true_speedup(
            params, config, pruner, length_E, count_NE, head=head, dense_config=dense_config
        ),
        executed_flops_speedup=float(executed[0] / executed[1]),
        kept_tokens=tuple(count_NE.mean(axis=-1).tolist()),
        example_id_E=example_id_E,
        length_E=length_E,
        count_NE=count_NE,
    )


@functools.cache
def _losses_of(head: Head) -> Callable:
    """The head's losses by the labels, compiled once a shape."""
    return jax.jit(lambda logits, batch: head.loss_fn(logits, batch, 0.0))


def token_counts(trace, batch: Batch, config: EncoderConfig):
    """Tokens that each layer ran on, int64 [N, B]; all of them for a method without sites."""
    if trace.count_NB is not None:
        return np.asarray(trace.count_NB, np.int64)
    return np.broadcast_to(batch.valid_BL.sum(-1), (config.num_layers, len(batch.valid_BL))).astype(
        np.int64
    )


def true_speedup(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    length_E,
    count_NE,
    *,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
) -> float:
    """Dense over pruned operations of examples without padding; dense_config: None for the model's own."""
    spent = head.flops(params["head"], config, length_E)
    dense_E = model_flops.dense_flops(dense_config or config, length_E, head=spent)
    pruned_E = model_flops.pruned_flops(config, pruner, params, length_E, count_NE, head=spent)
    return flops.speedup(dense_E, pruned_E)


def compare_speed(
    params: Params,
    dense_params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Sequence[Batch],
    *,
    dense_batches: Sequence[Batch] | None = None,
    repeats: int = 7,
    buckets: Sequence[int] | None = None,
    dtype=jnp.float32,
    driver: str = AUTO,
    autotune_table=None,
    expected_speedup: float | None = None,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
) -> SpeedComparison:
    """Times an engine against plain BERT on the same texts, medians of interleaved repeats.

    A repeat is one pass over all batches; compilation is in the first call only. dense_params: as params, of the
    unpruned model; its pruner's subtree is not read. dense_config: its sizes, None for these. dense_batches: the same
    texts as plain BERT should get them, padded to lengths of their own; None for `batches`. (The fast drivers leave
    padding out by themselves.) The other arguments as in `make_engine`; plain BERT is always the padded one.
    """
    dense_batches = [
        jax.device_put(batch) for batch in (batches if dense_batches is None else dense_batches)
    ]
    batches = [jax.device_put(batch) for batch in batches]
    pruned_run = make_engine(
        config,
        pruner,
        buckets=buckets,
        dtype=dtype,
        driver=driver,
        autotune_table=autotune_table,
        expected_speedup=expected_speedup,
        head=head,
    )
    dense_config = dense_config or config
    dense_run = make_engine(dense_config, keep_all(), dtype=dtype, driver="bucketed", head=head)
    dense_params = prepare_inference_params(
        jax.device_put(dense_params | {"pruner": {}}), dense_config, dtype
    )
    params = prepare_params_for(driver, jax.device_put(params), config, dtype)

    def over(batches, run: Callable, params) -> Callable:
        return lambda: [run(params, batch)[0] for batch in batches]

    timings = time_interleaved(
        {
            "dense": over(dense_batches, dense_run, dense_params),
            "pruned": over(batches, pruned_run, params),
        },
        repeats=repeats,
    )
    executed = np.zeros(2, np.int64)
    choices = [pruned_run.choice(*batch.token_BL.shape) for batch in batches]
    for batch, dense_batch, choice in zip(batches, dense_batches, choices, strict=True):
        count_NB = token_counts(pruned_run(params, batch)[1], batch, config)
        pruned = executed_flops(params, config, pruner, batch, count_NB, choice=choice, head=head)[
            1
        ]
        executed += np.array([padded_flops(params, dense_config, dense_batch, head), pruned])
    return SpeedComparison(
        dense=timings["dense"],
        pruned=timings["pruned"],
        wall_speedup=median_speedup(timings["dense"], timings["pruned"]),
        executed_flops_speedup=float(executed[0] / executed[1]),
        driver="+".join(sorted({choice.driver for choice in choices})),
    )
