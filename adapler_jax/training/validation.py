"""Scores and FLOPs of a model on a split, under the hard rule."""

import functools

import jax
import numpy as np

from adapler_jax import flops
from adapler_jax.inference import masked
from adapler_jax.metrics.classification import METRICS
from adapler_jax.pruning.base import Pruner
from adapler_jax.training.setup import Setup
from adapler_jax.types import FILLER_ID, Params


@functools.lru_cache(maxsize=8)
def _jitted(config, pruner: Pruner, dtype):
    return jax.jit(lambda params, batch: masked.forward(params, config, pruner, batch, dtype=dtype))


def predictor_dim(params: Params) -> int:
    """Hidden units of the contribution predictors; 0 for a pruner without any."""
    return params["pruner"]["hidden"]["bias"].shape[-1] if "hidden" in params["pruner"] else 0


def validate(params: Params, setup: Setup, pruner: Pruner, batches) -> dict:
    """{"score", "flops_speedup", "kept_tokens": [N]} of a list of evaluation batches.

    score: the task's metric in [0, 1]. flops_speedup: dense over pruned, true token counts. kept_tokens: mean number of
    tokens that each layer runs on; both left out for plain BERT.
    """
    run = _jitted(setup.encoder, pruner, setup.dtype)
    chosen, labels, lengths, counts = [], [], [], []
    for batch in batches:
        logits_BC, trace = run(params, batch)
        real_B = batch.example_id_B != FILLER_ID
        chosen.append(np.argmax(np.asarray(logits_BC), axis=-1)[real_B])
        labels.append(batch.label_B[real_B])
        lengths.append(batch.live_BL.sum(axis=-1)[real_B])
        if pruner.sites:
            counts.append(np.asarray(trace.count_NB)[:, real_B])
    score = METRICS[setup.dataset.task.metric](np.concatenate(chosen), np.concatenate(labels))
    if not pruner.sites:
        return {"score": float(score)}
    length_B, count_NB = np.concatenate(lengths), np.concatenate(counts, axis=-1)
    num_classes = setup.dataset.num_classes
    pruned_B = flops.pruned_flops(
        setup.encoder, length_B, count_NB, predictor_dim=predictor_dim(params), num_classes=num_classes
    )
    return {
        "score": float(score),
        "flops_speedup": flops.speedup(flops.dense_flops(setup.encoder, length_B, num_classes=num_classes), pruned_B),
        "kept_tokens": count_NB.mean(axis=-1).round(3).tolist(),
    }
