"""Score the systems of `benchmarks.peers` on texts: answers, agreement, operations."""

from collections.abc import Sequence

import numpy as np

from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.evaluation.models import evaluate_model
from adapler_jax.metrics.classification import METRICS
from adapler_jax.metrics.ranking import kendall_tau
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.weights.save import Saved
from benchmarks.peer_runs import Run
from benchmarks.systems import Bench, chunks, take


def flops_speedup(run: Run, saved: Saved, rows, *, batch_size: int) -> float:
    """Return dense over pruned operations of some test texts, true token counts."""
    batches = [
        pad_batch(*take(run.test, part), length=run.lengths[-1], batch_size=batch_size)
        for part in chunks(rows, batch_size)
    ]
    pruner = pruner_of_saved(saved)
    return evaluate_model(
        saved.params,
        saved.config,
        pruner,
        batches,
        buckets=run.buckets,
        dense_config=run.models["dense"].config,
    ).flops_speedup


def score_columns(run: Run, benches: Sequence[Bench], rows, *, batch_size: int) -> list[dict]:
    """Return the columns from labelled texts by system; no agreement without a reference."""
    texts = take(run.test, rows)
    names = [name for bench in benches for name in bench.names()]
    predicted = [labels for bench in benches for labels in bench.predict(texts, batch_size)]
    is_reference = [(name["package"], name["dtype"]) == ("torch", "float32") for name in names]
    reference = predicted[is_reference.index(True)] if any(is_reference) else None
    own_of = {
        _model_of(name): labels
        for name, labels in zip(names, predicted, strict=True)
        if name["dtype"] == "float32"
    }
    speedups = {"dense": 1.0} | {
        name: flops_speedup(run, saved, rows, batch_size=batch_size)
        for name, saved in run.models.items()
        if name != "dense"
    }
    return [
        name
        | {
            "test_score": METRICS[run.metric](labels, run.test.labels[rows])
            if run.metric
            else None,
            "agreement": _agreement(labels, reference),
            "float32_agreement": _agreement(labels, own_of.get(_model_of(name))),
            "flops_speedup": speedups[name["method"]],
            "num_scored_texts": len(rows),
        }
        for name, labels in zip(names, predicted, strict=True)
    ]


def _model_of(name: dict) -> tuple[str, ...]:
    """Return what a system has in common with the same model in another dtype."""
    return name["package"], name["method"], name["engine"]


def _agreement(answers: np.ndarray, reference: np.ndarray | None) -> float | None:
    """Return the fraction of equal classes, or Kendall's tau of logits; None without reference."""
    if reference is None:
        return None
    if answers.dtype.kind == "f":
        return kendall_tau(answers, reference)
    return float(np.mean(answers == reference))
