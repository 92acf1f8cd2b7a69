"""Make the optimizers of two groups of parameters, and the schedules of rates and slopes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Params

DECAYED = ("kernel", "token", "position", "segment")  # leaves, by name


class OptimizerConfig(NamedTuple):
    """Peak rates, reached after the warm-up and then falling linearly to 0."""

    learning_rate: float
    predictor_learning_rate: float
    threshold_learning_rate: float
    weight_decay: float
    adam_epsilon: float
    clip_norm: float  # global norm of each group's gradient; 0 switches clipping off
    warmup_ratio: float  # of all steps


def split_thresholds(params: Params, pruner: Pruner) -> tuple[Params, Params]:
    """Return the parameters that the main loss trains, and the parameters of the speed-up loss."""
    thresholds = {
        name: leaf for name, leaf in params["pruner"].items() if name in pruner.length_loss_params
    }
    predictors = {
        name: leaf
        for name, leaf in params["pruner"].items()
        if name not in pruner.length_loss_params
    }
    return params | {"pruner": predictors}, thresholds


def join_thresholds(weights: Params, thresholds: Params) -> Params:
    """Invert `split_thresholds`."""
    return weights | {"pruner": weights["pruner"] | thresholds}


def rate_schedule(peak: float, warmup_ratio: float, num_steps: int):
    """Return a schedule: linear from 0 to the peak, then linear to 0 after the last step."""
    num_warmup = max(1, int(warmup_ratio * num_steps))
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, num_warmup),
            optax.linear_schedule(peak, 0.0, max(1, num_steps - num_warmup)),
        ],
        [num_warmup],
    )


def decays(weights: Params):
    """Return a tree of bools: weight decay acts on kernels and tables alone."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in DECAYED, weights)


def allow_promotion(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimizer whose steps run under JAX's standard promotion, which optax needs."""
    optimizer = optax.with_extra_args_support(optimizer)

    def update(updates, state, params=None, **extra_args):
        """Run the optimizer's own update."""
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return optimizer.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def main_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Return Adam with decoupled weight decay and a separate rate for the predictors."""

    def group_of(weights):
        return {
            name: jax.tree.map(lambda _, name=name: name == "pruner", part)
            for name, part in weights.items()
        }

    def scale(peak):
        return optax.scale_by_learning_rate(rate_schedule(peak, config.warmup_ratio, num_steps))

    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=config.adam_epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.partition(
            {False: scale(config.learning_rate), True: scale(config.predictor_learning_rate)},
            group_of,
        ),
    )
    return allow_promotion(optimizer)


def threshold_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Return plain Adam over the thresholds."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=config.adam_epsilon),
        optax.scale_by_learning_rate(
            rate_schedule(config.threshold_learning_rate, config.warmup_ratio, num_steps)
        ),
    )
    return allow_promotion(optimizer)


def slope_at(
    step, *, schedule: str, steps_per_epoch: int, num_epochs: int, first: float, last: float
):
    """Return the slope of the soft removal at a step, float32 scalar.

    The schedule "geometric" multiplies it by one factor every step, from `first` to `last`. The
    schedule "epochs" is the released program's: 10 * 10^e in epoch e (50 * 50^e for 3 epochs, 10 *
    3^e for 10). The program assigns it after each step, so that an epoch's first step has the
    previous slope, and the first step of all has 1000.
    """
    if schedule == "geometric":
        share = step / max(1, steps_per_epoch * num_epochs - 1)
        return (first * (last / first) ** share).astype(jnp.float32)
    base, factor = {3: (50.0, 50.0), 10: (10.0, 3.0)}.get(num_epochs, (10.0, 10.0))
    lagged = jnp.maximum(step - 1, 0) // steps_per_epoch
    return jnp.where(step == 0, 1000.0, base * factor ** lagged.astype(jnp.float32)).astype(
        jnp.float32
    )
