"""Count operations from sizes alone, with a pruner and parameters that fit them."""

import numpy as np

from adapler_jax import flops, model_flops
from adapler_jax.pruning import adapler, keep_all, powerbert
from adapler_jax.types import BEFORE_FEED_FORWARD


def scorer_params(predictor_dim):
    """A model's parameters as far as counts need them."""
    return {"pruner": {"hidden": {"bias": np.zeros(predictor_dim)}}}


def pruned_flops(config, length_B, kept_NB, *, sites, predictor_dim, head, reads_first=False):
    """Return the operations of a model with sites in its layers."""
    if not sites:
        pruner = keep_all()
    else:
        is_inside = sites[0].point == BEFORE_FEED_FORWARD
        pruner = (powerbert(config) if is_inside else adapler(config))._replace(sites=tuple(sites))
    params = scorer_params(predictor_dim)
    return model_flops.pruned_flops(
        config, pruner, params, length_B, kept_NB, head=head, reads_first=reads_first
    )


def predictor_flops(config, length, *, predictor_dim):
    """Operations of one predictor and its decision."""
    pruner = adapler(config)
    return model_flops.site_flops(config, pruner, scorer_params(predictor_dim), length)


def significance_flops(config, length):
    return flops.significance_flops(config, length)
