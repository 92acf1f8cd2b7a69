"""Score what needs no training: the baselines that trained token pruning must beat.

Three of them delete words from the texts before the dense model reads them. Their FLOPs speedup is
the dense model's operations on whole texts over its operations on shortened texts. The others are
the methods of `evaluation.training_free`. They see validation texts, without labels.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax import flops
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.tokenization.shorten import (
    KeepOrder,
    PieceKinds,
    piece_kinds,
    share_of_speedup,
    without_stop_words,
)
from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.evaluation.shares import OutOfReachError
from adapler_jax.evaluation.training_free import (
    TRAINING_FREE,
    prune_without_training,
    vocabulary_saliency,
)
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.model_flops import dense_flops
from adapler_jax.training.evaluation_rows import (
    Scored,
    difference_columns,
    model_columns,
    text_speedups,
)
from adapler_jax.training.finished import DENSE
from adapler_jax.training.loaded_run import Log
from adapler_jax.training.task_record import TaskData
from adapler_jax.training.text_tasks import splits_special
from adapler_jax.types import compute_dtype

# Names of baselines in rows. CUT is each text cut to its first tokens.
STOP_WORDS, RANDOM, CUT = "stop words", "random", "cut"


class BaselineRequest(NamedTuple):
    """The dense model on the whole texts of a split, and the speedups that it is compared at."""

    dense: Scored
    speedups: Mapping[str, float]  # FLOPs speedups by the name of the pruned model
    kinds: PieceKinds  # of the pieces of the run's tokenizer
    log: Log

    @property
    def texts(self) -> Tokenized:
        """Return the whole texts of the split."""
        return self.dense.run.task.splits[self.dense.split]


def check_baselines(task: TaskData) -> None:
    """Raise ValueError if the texts of a task cannot be shortened."""
    has_tags = task.head.name == "token_classification"
    if task.num_classes == 0 or task.group != 1 or has_tags:
        others = "numbers" if task.head.name in ("regression", "embedding") else "questions"
        others = "tags of words" if has_tags else others
        raise ValueError(
            f"baselines shorten texts that have classes; the task {task.name} has {others}: leave "
            "baselines out"
        )


def stop_word_rows(request: BaselineRequest) -> list[dict[str, Any]]:
    """Return the row without English stop words and punctuation."""
    request.log(f"{STOP_WORDS}: removes English stop words and punctuation, compiling ...")
    shortened = without_stop_words(request.texts, request.kinds)
    return [shortened_row(STOP_WORDS, shortened, request)]


def shortened_rows(request: BaselineRequest, *, method: str) -> list[dict[str, Any]]:
    """Return a row for each speedup, with a share of the tokens of each text.

    Args:
      request: the texts and the speedups.
      method: CUT keeps the first tokens, RANDOM those that the run's seed draws.
    """
    order = KeepOrder(
        request.texts,
        request.kinds,
        seed=request.dense.run.config.seed,
        is_random=method == RANDOM,
    )
    dense_E = flops_of_lengths(request, request.texts.lengths)

    def speedup_of(share: float) -> float:
        """Return the FLOPs speedup of texts with a share of their tokens."""
        return flops.speedup(dense_E, flops_of_lengths(request, order.lengths(share)))

    rows = []
    for name, target in request.speedups.items():
        share = share_of_speedup(speedup_of, target)
        if share is None:
            request.log(f"{method}: no share of tokens gives {target:.2f}x of {name}; left out")
            continue
        request.log(f"{method}: keeps {100 * share:.0f}% of the tokens for {target:.2f}x")
        row = shortened_row(method, order.keep(share), request)
        rows.append(row | {"matches": name, "target_speedup": target})
    return rows


def training_free_rows(request: BaselineRequest) -> list[dict[str, Any]]:
    """Return a row for each speedup and each method without training that is not the run's."""
    run, split, *_ = request.dense
    saved, dtype = run.models[DENSE], compute_dtype(run.config.compute_dtype)
    batches = run.batches(DENSE, run.task.splits[run.validation or split])
    own = {pruner.name for pruner in run.pruners.values()}
    rows = []
    for method in TRAINING_FREE if request.speedups else ():
        if method in own:
            continue
        options: dict[str, Any] = {"method": method, "head": saved.head, "dtype": dtype}
        if method == "vocabulary":
            with Heartbeat(lambda: "vocabulary: measuring saliency", log=request.log):
                options["saliency_V"] = vocabulary_saliency(
                    saved.params, saved.config, batches, dtype=dtype
                )
        prune = functools.partial(
            prune_without_training, saved.params, saved.config, batches, **options
        )
        for name, target in request.speedups.items():
            try:
                rows.append(_training_free_row(method, name, max(1.0, target), prune, request))
            except OutOfReachError as error:
                request.log(f"{error}; left out")
    return rows


def _training_free_row(
    method: str, name: str, target: float, prune: Callable, request: BaselineRequest
) -> dict[str, Any]:
    """Return the row of the dense model that drops tokens to a speedup without training."""
    request.log(f"{method}: brought to {target:.2f}x of {name} without training, compiling ...")
    run, split, *_ = request.dense
    saved = run.models[DENSE]
    with Heartbeat(lambda: f"{method}: choosing tokens", log=request.log):
        params, pruner = prune(speedup=target)
    faster = dataclasses.replace(saved, params=params)
    changed = run.with_model(method, faster, pruner, expected_speedup=target)
    scored = Scored(changed, split, *changed.score(method, split))
    row = model_columns(method, scored) | difference_columns(scored, request.dense)
    return row | {"is_baseline": True, "matches": name, "target_speedup": target}


Baseline = Callable[[BaselineRequest], list[dict[str, Any]]]
SHORTENING: tuple[Baseline, ...] = (
    stop_word_rows,
    functools.partial(shortened_rows, method=RANDOM),
    functools.partial(shortened_rows, method=CUT),
)
BASELINES: tuple[Baseline, ...] = (*SHORTENING, training_free_rows)


def baseline_rows(
    baselines: Sequence[Baseline], dense: Scored, speedups: Mapping[str, float], *, log: Log
) -> list[dict[str, Any]]:
    """Return the rows of baselines on a split.

    Args:
      baselines: functions from a request to rows.
      dense: the dense model on the whole texts of the split.
      speedups: FLOPs speedups to compare at, by the name of the pruned model.
      log: receives a sentence for each baseline.
    """
    config = dense.run.config
    core = load_core(str(dense.run.checkpoint), split_special_tokens=splits_special(config))
    request = BaselineRequest(dense, speedups, piece_kinds(core), log)
    return [row for baseline in baselines for row in baseline(request)]


def shortened_row(name: str, shortened: Tokenized, request: BaselineRequest) -> dict[str, Any]:
    """Return the row of the dense model on shortened texts.

    Args:
      name: of the baseline.
      shortened: the texts of the split, with their ids.
      request: the dense model on the whole texts.

    Returns:
      The columns of a model, with `is_baseline`. There are no seconds.
    """
    run, split = request.dense.run, request.dense.split
    found, scorer = run.score(DENSE, split, tokenized=shortened)
    scored = Scored(run, split, found, scorer)
    dense_E = flops_of_lengths(request, request.texts.lengths)
    short_E = flops_of_lengths(request, shortened.lengths)
    return (
        model_columns(name, scored)
        | {"flops_speedup": flops.speedup(dense_E, short_E), "is_baseline": True}
        | text_speedups(dense_E / short_E)
        | difference_columns(scored, request.dense)
    )


def flops_of_lengths(request: BaselineRequest, length_E: np.ndarray) -> np.ndarray:
    """Return the dense model's operations for texts of so many tokens, int64 [E]."""
    saved = request.dense.run.models[DENSE]
    options = saved.head.flops_options(saved.params, saved.config, length_E)
    return dense_flops(saved.config, length_E, **options)
