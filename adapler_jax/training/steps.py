"""Do one training step: one forward pass, and one backward pass for each objective."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from adapler_jax.forward import DEFAULT_SCAN
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.pruning.base import Pruner
from adapler_jax.training.losses import LossConfig, compute_losses
from adapler_jax.training.optimizers import join_thresholds, split_thresholds
from adapler_jax.types import Batch, EncoderConfig, Params, ScanOptions


@flax.struct.dataclass
class TrainState:
    """State of training that a restart needs. The step is the position in the data too."""

    step: jax.Array  # int32 scalar, steps done
    params: Params
    main_state: optax.OptState
    threshold_state: optax.OptState


# (state, batch, seed key) -> (state, {name: float32 scalar})
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]
# (step, steps of an epoch) -> slope of the soft rule; None for the hard rule
SlopeSchedule = Callable[[jax.Array, int], jax.Array | None]
# (params, FLOPs speedup of the batch) -> params
ThresholdController = Callable[[Params, jax.Array], Params]
# (params, key) -> params
ThresholdNoise = Callable[[Params, jax.Array], Params]


def init_state(
    params: Params,
    pruner: Pruner,
    main: optax.GradientTransformation,
    thresholds: optax.GradientTransformation,
) -> TrainState:
    """Return a state at step 0 for the two optimizers."""
    weight_tree, threshold_tree = split_thresholds(params, pruner)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        main_state=main.init(weight_tree),
        threshold_state=thresholds.init(threshold_tree),
    )


def make_train_step(
    config: EncoderConfig,
    pruner: Pruner,
    losses: LossConfig,
    main: optax.GradientTransformation,
    thresholds: optax.GradientTransformation,
    *,
    slope_fn: Callable[[jax.Array], jax.Array | None],
    dtype: Any,
    threshold_controller: ThresholdController | None = None,
    threshold_noise: ThresholdNoise | None = None,
    head: Head = CLASSIFICATION,
    loop: ScanOptions = DEFAULT_SCAN,
) -> TrainStep:
    """Return a pure function that does one step.

    Args:
      losses: weights of the loss terms.
      main: optimizer of the weights.
      thresholds: optimizer of the leaves that the speed-up loss trains.
      slope_fn: step -> slope of the soft rule; None for the hard rule.
      dtype: of the operands of the encoder's products.
      threshold_controller: moves the thresholds by the batch's FLOPs speedup. It replaces the
        speed-up loss and saves its backward pass.
      threshold_noise: changes the thresholds of the forward pass alone.
    """
    train_thresholds = threshold_controller is None and bool(pruner.length_loss_params)
    options = {"losses": losses, "dtype": dtype, "head": head, "loop": loop}
    objectives = functools.partial(compute_losses, config=config, pruner=pruner, **options)

    def step_fn(state: TrainState, batch: Batch, seed_key):
        """Return the next state and the metrics of the step."""
        weights, threshold_tree = split_thresholds(state.params, pruner)
        key = jax.random.fold_in(seed_key, state.step)

        def run(weights, threshold_tree):
            """Return both losses and the metrics."""
            params = join_thresholds(weights, threshold_tree)
            if threshold_noise is not None:
                params = threshold_noise(params, key)
            return objectives(params, batch=batch, slope=slope_fn(state.step), key=key)

        threshold_state = state.threshold_state
        if train_thresholds:
            main_grads, grads, metrics = _both_gradients(run, weights, threshold_tree)
            threshold_tree, threshold_state = _update(
                thresholds, grads, threshold_state, threshold_tree
            )
        else:
            main_grads, metrics = _main_gradient(run, weights, threshold_tree)
        weights, main_state = _update(main, main_grads, state.main_state, weights)
        params = join_thresholds(weights, threshold_tree)
        if threshold_controller is not None:
            params = threshold_controller(params, metrics["flops_speedup"])
        if pruner.sites:
            params["pruner"] = pruner.constrain(params["pruner"])
        metrics["grad_norm"] = optax.tree.norm(main_grads)
        return TrainState(state.step + 1, params, main_state, threshold_state), metrics

    return step_fn


def _both_gradients(run: Callable, weights: Params, threshold_tree: Params):
    """Return the gradients of the weights and of the thresholds, each by its loss; and metrics."""
    one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    _, vjp_fn, metrics = jax.vjp(run, weights, threshold_tree, has_aux=True)
    _, threshold_grads = vjp_fn((zero, one))
    main_grads, _ = vjp_fn((one, zero))
    return main_grads, threshold_grads, metrics


def _main_gradient(run: Callable, weights: Params, threshold_tree: Params):
    """Return the main loss's gradient of the weights, and metrics."""
    one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    _, vjp_fn, metrics = jax.vjp(lambda w: run(w, threshold_tree), weights, has_aux=True)
    (main_grads,) = vjp_fn((one, zero))
    return main_grads, metrics


def _update(
    optimizer: optax.GradientTransformation, grads: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    """Return the parameters and the optimizer's state after one update."""
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state
