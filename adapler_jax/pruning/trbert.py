"""TR-BERT: at a few layers a small policy network decides of every token whether it goes on or its state is final.

The policy is trained by reinforcement: several samples of the actions on each text, rewarded by the task's loss and by
the share of tokens that went on; in the first steps one of the samples imitates a heuristic.

Source: Ye et al., "TR-BERT: Dynamic Token Reduction for Accelerating BERT Inference", NAACL 2021.
"""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.encoders.bert import ACTIVATIONS, exact_linear, init_linear
from adapler_jax.pruning.base import Pruner, hard_to_soft, is_layer_subset, rank_descending
from adapler_jax.types import BEFORE_ATTENTION, EncoderConfig, Selection, Site, SoftSelection

KEEP_PROBABILITY = 0.5  # probability from which a token goes on
PROBABILITY_EPS = 1e-6  # keeps logarithms of probabilities finite


def default_layers(num_layers: int) -> tuple[int, ...]:
    """Layers in front of which the published model selects, from 0: 1 and the middle; one of them where they meet."""
    return tuple(sorted({1, num_layers // 2}))


def check_layers(layers, num_layers: int) -> tuple[int, ...]:
    """The layers as a tuple. Raises ValueError where they are not increasing numbers from 1 to the last layer."""
    layers = tuple(layers)
    if not is_layer_subset(layers, lowest=1, num_layers=num_layers):
        raise ValueError(
            f"token selection in front of layers {layers}; expected increasing numbers from 1 to {num_layers - 1}, "
            "layers counted from 0"
        )
    return layers


def init_params(key, config: EncoderConfig, *, num_sites: int, selector_dim: int):
    """A network D -> P -> 1 for every site; probabilities start near a half."""
    hidden_key, score_key = jax.random.split(key)
    return {
        "hidden": init_linear(
            hidden_key, (num_sites, config.hidden_dim, selector_dim), config.init_std
        ),
        "score": init_linear(score_key, (num_sites, selector_dim, 1), config.init_std),
    }


def selection_logits(params, hidden):
    """What a selector says of each token: W2 gelu(W1 h + b1) + b2, float32 [...] of states [..., D].

    Its sigmoid is the probability that the token goes on.
    """
    return exact_linear(
        params["score"], ACTIVATIONS["gelu"](exact_linear(params["hidden"], hidden))
    )[..., 0]


def probabilities(view):
    """Of going on, float32 [B, L]; 0 for padding and for tokens that are gone."""
    return jnp.where(
        view.remaining_BL & (view.survival_BL > 0), jax.nn.sigmoid(view.token_logit_BL), 0.0
    )


def force_cls(keep_BL, remaining_BL):
    """[CLS] (slot 0) goes on wherever the row has one."""
    return keep_BL.at[:, 0].set(remaining_BL[:, 0])


def select(params, layer, view) -> Selection:
    """Tokens whose probability is at least a half, and [CLS]."""
    del params, layer
    score_BL = probabilities(view)
    return Selection(
        score_BL=score_BL,
        keep_BL=force_cls(view.remaining_BL & (score_BL >= KEEP_PROBABILITY), view.remaining_BL),
    )


def select_by_batch(params, layer, view) -> Selection:
    """The released program's rule for batches: every row keeps as many tokens as the row with the most of them, the
    most probable first, below a half too. A text's answer then depends on its batch."""
    del params, layer
    score_BL = probabilities(view)
    chosen_BL = force_cls(view.remaining_BL & (score_BL >= KEEP_PROBABILITY), view.remaining_BL)
    most = jnp.max(jnp.sum(chosen_BL, axis=-1, dtype=jnp.int32))
    place_BL = rank_descending(score_BL.at[:, 0].set(jnp.inf), view.remaining_BL)
    return Selection(score_BL=score_BL, keep_BL=view.remaining_BL & (place_BL < most))


def imitated_actions(score_BL, importance_BL, entering_BL):
    """As many tokens as the policy would choose on average, those that the heuristic ranks first: bool [B, L].

        m = round(sum_t p_t), halves up

    Source: the released program ("guide"). [CLS] is forced elsewhere.
    """
    num_chosen_B1 = jnp.floor(jnp.sum(score_BL, axis=-1, keepdims=True) + 0.5).astype(jnp.int32)
    return entering_BL & (rank_descending(importance_BL, entering_BL) < num_chosen_B1)


def sample(params, layer, view, slope) -> SoftSelection:
    """One action a token: goes on with its probability, [CLS] always; by the heuristic in rows that imitate it.

    `view.noise` holds what decides. No gradient reaches the probabilities through the actions.
    """
    del params, layer, slope
    score_BL, noise = probabilities(view), view.noise
    entering_BL = view.remaining_BL & (view.survival_BL > 0)
    keep_BL = entering_BL & (noise.uniform_BL < score_BL)
    if noise.importance_BL is not None:
        guided_BL = imitated_actions(score_BL, noise.importance_BL, entering_BL)
        keep_BL = jnp.where(noise.imitate_B[:, None], guided_BL, keep_BL)
    return hard_to_soft(Selection(score_BL=score_BL, keep_BL=force_cls(keep_BL, view.remaining_BL)))


def action_losses(trace, sites, valid_BL):
    """How unlikely the actions of a pass were, float32 [B]: sum over the sites of

        - sum_t m_t [a_t log(p_t + 1e-6) + (1 - a_t) log(1 - p_t + 1e-6)] / sum_t m_t,   m_t = 1 where t enters the site

    The forced [CLS] counts with its own probability, and is taught to be selected. Source: the released program.
    """
    total_B = jnp.zeros(valid_BL.shape[0])
    for site in sites:
        entering_BL = (
            valid_BL.astype(jnp.float32) if site.layer == 0 else trace.survival_NBL[site.layer - 1]
        )
        action_BL, score_BL = trace.survival_NBL[site.layer], trace.score_NBL[site.layer]
        log_BL = action_BL * jnp.log(score_BL + PROBABILITY_EPS) + (1.0 - action_BL) * jnp.log(
            1.0 - score_BL + PROBABILITY_EPS
        )
        num_entering_B = jnp.maximum(1.0, jnp.sum(entering_BL, axis=-1))
        total_B = total_B - jnp.sum(log_BL * entering_BL, axis=-1) / num_entering_B
    return total_B


def selected_share(trace, sites, valid_BL, *, normalize_by_padded_length: bool = False):
    """Mean over the sites of the share of a text's tokens that went on, float32 [B].

    normalize_by_padded_length: as a share of the batch's slots: the released program, whose length penalty then means something
    else for every padding.
    """
    if normalize_by_padded_length:
        length_B = jnp.full(valid_BL.shape[:1], valid_BL.shape[1], jnp.float32)
    else:
        length_B = jnp.maximum(1.0, jnp.sum(valid_BL, axis=-1, dtype=jnp.float32))
    return sum(trace.count_NB[site.layer] for site in sites) / (len(sites) * length_B)


@functools.cache
def trbert(
    config: EncoderConfig,
    *,
    layers: tuple[int, ...] | None = None,
    selector_dim: int = 32,
    by_batch: bool = False,
) -> Pruner:
    """The TR-BERT pruner. layers: in front of which tokens are selected, from 0; None for those of the published
    model. by_batch: the released program's rule for batches, masked driver only."""
    layers = default_layers(config.num_layers) if layers is None else layers
    layers = check_layers(layers, config.num_layers)
    return Pruner(
        name="trbert",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in layers),
        init=functools.partial(init_params, num_sites=len(layers), selector_dim=selector_dim),
        score=selection_logits,
        soft=sample,
        hard=select_by_batch if by_batch else select,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
        factory_kwargs=(("layers", layers),),
        reference_only_reason="fills the rows of a batch up to the longest" if by_batch else "",
    )
