"""One training step, for every phase: one forward pass, one backward pass for each objective."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.pruning.base import Pruner
from adapler_jax.training.losses import LossConfig, compute_losses
from adapler_jax.training.optimizers import join_thresholds, split_thresholds
from adapler_jax.types import Batch, EncoderConfig, Params, ScanOptions


@flax.struct.dataclass
class TrainState:
    """Everything that a restart needs beside the data's position, which is the step."""

    step: jax.Array  # int32 scalar, steps done
    params: Params
    main_state: optax.OptState
    threshold_state: optax.OptState


def init_state(params: Params, pruner: Pruner, main, thresholds) -> TrainState:
    """A state at step 0 for the two optimizers."""
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
    main,
    thresholds,
    *,
    slope_fn,
    dtype,
    threshold_controller=None,
    threshold_noise=None,
    head: Head = CLASSIFICATION,
    loop=ScanOptions(),
):
    """A pure function (state, batch, seed key) -> (state, {name: float32 scalar}).

    Args: main, thresholds: optax transformations of the two groups. slope_fn: step -> slope.
    dtype: of the operands of the encoder's products. steer: (params, the batch's FLOPs speedup) ->
    params, moves the thresholds in place of the speed-up loss and saves its backward pass. jitter:
    (params, key) -> params, what the step's forward pass sees in place of them. head: what reads
    the last states. loop: as in `full_width.forward_layers`.
    """
    train_thresholds = threshold_controller is None and bool(pruner.length_loss_params)

    def step_fn(state: TrainState, batch: Batch, seed_key):
        weights, threshold_tree = split_thresholds(state.params, pruner)
        slope, key = slope_fn(state.step), jax.random.fold_in(seed_key, state.step)

        def run(weights, threshold_tree):
            params = join_thresholds(weights, threshold_tree)
            if threshold_noise is not None:
                params = threshold_noise(params, key)
            return compute_losses(
                params,
                config,
                pruner,
                batch,
                losses,
                slope=slope,
                key=key,
                dtype=dtype,
                head=head,
                loop=loop,
            )

        one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
        if train_thresholds:
            _, vjp_fn, numbers = jax.vjp(run, weights, threshold_tree, has_aux=True)
            threshold_grads = vjp_fn((zero, one))[1]
        else:
            _, vjp_fn, numbers = jax.vjp(lambda w: run(w, threshold_tree), weights, has_aux=True)
        main_grads = vjp_fn((one, zero))[0]
        updates, main_state = main.update(main_grads, state.main_state, weights)
        weights = optax.apply_updates(weights, updates)
        threshold_state = state.threshold_state
        if train_thresholds:
            updates, threshold_state = thresholds.update(
                threshold_grads, threshold_state, threshold_tree
            )
            threshold_tree = optax.apply_updates(threshold_tree, updates)
        params = join_thresholds(weights, threshold_tree)
        if threshold_controller is not None:
            params = threshold_controller(params, numbers["flops_speedup"])
        if pruner.sites:
            params["pruner"] = pruner.constrain(params["pruner"])
        numbers["grad_norm"] = optax.tree.norm(main_grads)
        return TrainState(state.step + 1, params, main_state, threshold_state), numbers

    return step_fn
