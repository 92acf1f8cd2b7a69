"""Calibrate AdapLeR's thresholds for any budget, by quantiles of its scores on unlabelled text.

A budget is a kept share: the mean over layers of the tokens that a layer runs on, as a fraction of
the tokens of the texts.

Shape letters:

    K calibrated budgets, increasing; the last is 1
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax import flops
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.attention import key_bias
from adapler_jax.encoders.base import embed_batch, plain_layer, slot_positions, with_shared
from adapler_jax.evaluation.models import flops_of_examples
from adapler_jax.evaluation.passes import join_passes, run_batches
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.calibration import KEEPS_ALL, check_budgets
from adapler_jax.inference.drift import MARGIN, SHARE
from adapler_jax.inference.loading import threshold_of
from adapler_jax.metrics.classification import decide, margins, softmax
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.pruning.base import hard_step, score_tokens
from adapler_jax.types import PADDING_EXAMPLE_ID, Array, Batch, EncoderConfig, Params, SiteInput
from adapler_jax.weights.save import Saved
from adapler_jax.weights.students import full_config

BUDGETS = (0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.58, 0.66, 0.74, 0.82, 0.91, 1.0)
MAX_THRESHOLD = 8.0  # at 1 the threshold is the uniform score; above it [CLS] may stay alone
# A layer that drops nothing at the trained thresholds still drops at small budgets.
SHARE_RANGE = (1e-3, 0.97)
NUM_BISECTIONS = 60
MAX_EXPONENT = 1e3


class Measured(NamedTuple):
    """The speed and the answers of a model on some texts."""

    kept_share: float
    predicted_E: np.ndarray  # int32, class of each text
    share_E: np.ndarray  # float64, mean over layers of the kept share of each text
    margin_E: np.ndarray  # float64, of `metrics.classification.margins`
    difference_E: np.ndarray  # float64, the margin without a decision threshold
    dense_E: np.ndarray  # int64, operations of the dense model on true tokens
    pruned_E: np.ndarray  # int64, operations of the model

    @property
    def flops_speedup(self) -> float:
        """Return dense over pruned operations of all texts."""
        return flops.speedup(self.dense_E, self.pruned_E)

    def record(self, budget: float, full_E: np.ndarray) -> dict[str, float]:
        """Return the row of a budget for calibration.json.

        Args:
          budget: that was measured.
          full_E: int32, classes by the full model.
        """
        return {
            "budget": budget,
            "kept_share": self.kept_share,
            "flops_speedup": self.flops_speedup,
            "agreement": float(np.mean(self.predicted_E == full_E)),
            **mean_and_sd(SHARE, self.share_E),
            **mean_and_sd(MARGIN, self.difference_E),
        }


def mean_and_sd(name: str, value_E: np.ndarray) -> dict[str, float]:
    """Return the mean over texts and the standard deviation, which drift is judged by."""
    return {name: float(np.mean(value_E)), f"{name}_sd": float(np.std(value_E))}


def profile_shares(natural_N: np.ndarray, budget: float) -> np.ndarray:
    """Return the kept share of each layer, of mean `budget`, in the shape of the trained model.

        share_l = natural_l ^ p,   p >= 0 such that the mean over layers is the budget

    Shares fall with the budget at every layer.

    Args:
      natural_N: kept shares at the trained thresholds.
      budget: in (0, 1].
    """
    base_N = np.clip(np.minimum.accumulate(natural_N), *SHARE_RANGE)
    low, high = 0.0, MAX_EXPONENT
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if np.mean(base_N**middle) > budget else (low, middle)
    return base_N**high if budget < 1.0 else np.ones_like(base_N)


def quantile_threshold(value_X: np.ndarray, num_kept: int) -> float:
    """Return the threshold that `num_kept` of the values reach, at most 8.

    It is between the last value that is kept and the first that is not; the smallest value if all
    are kept. Equal values are kept or dropped together.

    Args:
      value_X: float32, n times the score of every token but [CLS], n the tokens of its text.
      num_kept: of them.
    """
    if num_kept >= len(value_X):
        return min(MAX_THRESHOLD, float(np.min(value_X, initial=MAX_THRESHOLD)))
    falling_X = np.sort(value_X)[::-1].astype(np.float64)
    above = falling_X[num_kept - 1] if num_kept > 0 else 2.0 * falling_X[0] + 1e-6
    return min(MAX_THRESHOLD, float((above + falling_X[num_kept]) / 2.0))


class _Texts(NamedTuple):
    """Batches of texts before a layer."""

    hidden: list[Array]  # [B, L, D] each
    remaining: list[Array]  # bool [B, L], without padding examples
    fixed: list[Array]  # bool [B, L], tokens that no threshold drops: [CLS], and protected tokens


def calibrate_budgets(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Sequence[Batch],
    *,
    budgets: Sequence[float] = BUDGETS,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
) -> np.ndarray:
    """Return the threshold ratios of every layer at every budget, float32 [N, K].

    A layer's threshold is the quantile of n x score, over all tokens that enter it but [CLS] and
    the tokens that the head protects, that keeps the share of `profile_shares`. The next layer sees
    the tokens that are left. On these texts the mean count of every layer is then as asked, but for
    equal values and the bound of 8.

    Args:
      params: of the whole model, encoder layers stacked.
      config: of the encoder.
      pruner: AdapLeR.
      batches: of texts; no labels are used. Padding examples do not count.
      budgets: increasing, the last 1.
      head: of the model.
      dtype: of the operands of the encoder's products.

    Raises:
      ValueError: the pruner has no thresholds, or budgets are not in order.
    """
    check_calibrates(pruner)
    check_budgets(budgets)
    steps, params = _jit_steps(config, pruner, dtype), with_shared(encoder_of(config), params)
    valid = [
        jnp.asarray(batch.valid_BL & (batch.example_id_B != PADDING_EXAMPLE_ID)[:, None])
        for batch in batches
    ]
    fixed = [_fixed_tokens(head, batch) & valid_BL for batch, valid_BL in zip(batches, valid)]
    num_fixed = sum(int(fixed_BL.sum()) for fixed_BL in fixed)
    num_tokens = sum(int(valid_BL.sum()) for valid_BL in valid)
    natural_N = natural_shares(params, config, pruner, batches, head=head, dtype=dtype)
    threshold_NK = np.zeros((config.num_layers, len(budgets)), np.float32)
    for k, budget in enumerate(budgets):
        share_N = profile_shares(natural_N, budget)
        hidden = [steps.embed(params["encoder"], batch) for batch in batches]
        texts = _Texts(hidden, valid, fixed)
        for layer, share in enumerate(share_N):
            num_kept = max(0, round(share * num_tokens) - num_fixed)
            texts, threshold_NK[layer, k] = _calibrate_layer(steps, params, texts, layer, num_kept)
    return np.maximum.accumulate(threshold_NK[:, ::-1], axis=1)[:, ::-1]


def _fixed_tokens(head: Head, batch: Batch) -> Array:
    """Return the tokens that no threshold drops, bool [B, L]: [CLS], and the head's own."""
    is_first_BL = jnp.zeros(batch.token_BL.shape, bool).at[:, 0].set(True)
    protected_BL = head.protected_tokens(batch)
    return is_first_BL if protected_BL is None else is_first_BL | protected_BL


class _Steps(NamedTuple):
    """Jitted pieces of a pass."""

    embed: Any  # (encoder params, Batch) -> hidden_BLD
    # Both of (site params, layer, hidden_BLD, remaining_BL, fixed_BL).
    values: Any  # n x score, [B, L]
    keep: Any  # keep_BL
    run: Any  # (layer params, layer, hidden_BLD, remaining_BL) -> hidden_BLD


def _jit_steps(config: EncoderConfig, pruner: Pruner, dtype: DTypeLike) -> _Steps:
    """Return the pieces, which compile once a batch shape."""
    encoder = encoder_of(config)

    def select(site_params, layer, hidden_BLD, remaining_BL, fixed_BL):
        position_1L = slot_positions(hidden_BLD.shape[1])
        logit_BL = score_tokens(pruner, site_params, hidden_BLD, position_X=position_1L)
        survival_BL = remaining_BL.astype(jnp.float32)
        site = SiteInput(logit_BL, remaining_BL, survival_BL, protected_BL=fixed_BL)
        return hard_step(pruner, site_params, layer, site)

    def values(site_params, layer, hidden_BLD, remaining_BL, fixed_BL):
        score_BL = select(site_params, layer, hidden_BLD, remaining_BL, fixed_BL).score_BL
        return score_BL * jnp.sum(remaining_BL, axis=-1, keepdims=True, dtype=jnp.float32)

    def keep(site_params, layer, hidden_BLD, remaining_BL, fixed_BL):
        return select(site_params, layer, hidden_BLD, remaining_BL, fixed_BL).keep_BL

    def run(layer_params, layer, hidden_BLD, remaining_BL):
        return plain_layer(
            encoder,
            layer_params,
            config,
            hidden_BLD,
            key_bias(remaining_BL),
            index=layer,
            position_BL=slot_positions(hidden_BLD.shape[1]),
            dtype=dtype,
        )

    def embed(encoder_params, batch):
        return embed_batch(encoder, encoder_params, config, batch.token_BL, batch.segment_BL)

    return _Steps(jax.jit(embed), jax.jit(values), jax.jit(keep), jax.jit(run))


def _calibrate_layer(
    steps: _Steps, params: Params, texts: _Texts, layer: int, num_kept: int
) -> tuple[_Texts, float]:
    """Return the texts after a layer that keeps so many tokens, and its threshold.

    Fixed tokens are not among them.
    """
    index = jnp.int32(layer)
    site_params = jax.tree.map(lambda leaf: leaf[layer], params["pruner"])
    layer_params = jax.tree.map(lambda leaf: leaf[layer], params["encoder"]["layers"])
    values = []
    for hidden_BLD, remaining_BL, fixed_BL in zip(*texts):
        value_BL = np.asarray(steps.values(site_params, index, hidden_BLD, remaining_BL, fixed_BL))
        values.append(value_BL[np.asarray(remaining_BL & ~fixed_BL)])
    threshold = quantile_threshold(np.concatenate(values), num_kept)
    site_params = site_params | {"threshold_N": jnp.float32(threshold)}
    hidden, remaining = [], []
    for hidden_BLD, remaining_BL, fixed_BL in zip(*texts):
        keep_BL = steps.keep(site_params, index, hidden_BLD, remaining_BL, fixed_BL)
        remaining.append(keep_BL)
        hidden.append(steps.run(layer_params, index, hidden_BLD, keep_BL))
    return texts._replace(hidden=hidden, remaining=remaining), threshold


def natural_shares(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Sequence[Batch],
    *,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
) -> np.ndarray:
    """Return the share of tokens that each layer runs on at the model's own thresholds, [N]."""
    without = [batch.replace(budget_B=None) for batch in batches]
    kept_N, num_tokens = np.zeros(config.num_layers), 0
    for found in run_batches(params, config, pruner, without, head=head, dtype=dtype):
        kept_N += found.count_NE.sum(axis=1)
        num_tokens += int(found.length_E.sum())
    return kept_N / num_tokens


def measure_budgets(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Sequence[Batch],
    *,
    budgets: Iterable[float],
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
    threshold: float | None = None,
    dense_config: EncoderConfig | None = None,
    driver: str = "masked",
) -> dict[float, Measured]:
    """Return what the model does at each budget to these texts.

    Args:
      params: of the whole model, with the calibration.
      config: of the encoder.
      pruner: AdapLeR.
      batches: of texts.
      budgets: in (0, 1].
      head: of the classes.
      dtype: of the operands of the encoder's products.
      threshold: of the decision, as in `metrics.classification.decide`.
      dense_config: of the model that speedups are over; None for the model's own.
      driver: as of `make_engine`; all give equal results.
    """
    options: dict[str, Any] = {
        "driver": driver,
        "head": head,
        "dtype": dtype,
        "threshold": threshold,
        "dense_config": dense_config,
    }
    return {
        budget: measure_texts(
            params,
            config,
            pruner,
            [
                batch.replace(budget_B=np.full(len(batch.token_BL), budget, np.float32))
                for batch in batches
            ],
            **options,
        )
        for budget in budgets
    }


def measure_texts(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batches: Iterable[Batch],
    *,
    head: Head = CLASSIFICATION,
    dtype: DTypeLike = jnp.float32,
    threshold: float | None = None,
    dense_config: EncoderConfig | None = None,
    driver: str = "masked",
) -> Measured:
    """Run a model over texts; arguments as in `measure_budgets`."""
    count_NE, length_E, logit_EC = join_passes(
        run_batches(params, config, pruner, batches, head=head, dtype=dtype, driver=driver)
    )
    prob_EC = softmax(logit_EC)
    spent_E = flops_of_examples(
        params, config, pruner, length_E, count_NE, head=head, dense_config=dense_config
    )
    return Measured(
        float(count_NE.sum() / (config.num_layers * length_E.sum())),
        decide(prob_EC, threshold).astype(np.int32),
        count_NE.mean(axis=0) / length_E,
        margins(prob_EC, threshold),
        margins(prob_EC),
        *spent_E,
    )


def predict_classes(
    saved: Saved,
    batches: Sequence[Batch],
    *,
    dtype: DTypeLike = jnp.float32,
    driver: str = "masked",
) -> np.ndarray:
    """Return the class that a saved model predicts for each text of the batches, int32 [E]."""
    return measure_saved(saved, batches, dtype=dtype, driver=driver).predicted_E


def measure_saved(
    saved: Saved,
    batches: Iterable[Batch],
    *,
    dtype: DTypeLike = jnp.float32,
    driver: str = "masked",
) -> Measured:
    """Run a saved model over texts."""
    return measure_texts(
        saved.params,
        saved.config,
        pruner_of_saved(saved),
        batches,
        head=saved.head,
        dtype=dtype,
        threshold=threshold_of(saved, None),
        dense_config=full_config(saved),
        driver=driver,
    )


def check_calibrates(pruner: Pruner) -> None:
    """Raise ValueError unless the pruner has values that a budget can set."""
    if not pruner.sites:
        raise ValueError(KEEPS_ALL)
    if not pruner.takes_budgets:
        raise ValueError(
            f"{pruner.name} takes no budgets; the speed of its model is fixed. AdapLeR and the "
            "methods without training take them"
        )
