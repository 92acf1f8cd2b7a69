"""Compare ways to a speedup by their agreement with the full model; the first need no training.

Shape letters:

    E texts
    I entries of a vector, or numbers of a text
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.evaluation.budgets import measure_saved
from adapler_jax.evaluation.passes import run_saved
from adapler_jax.evaluation.shares import OutOfReachError
from adapler_jax.evaluation.task_texts import batches_and_rows, load_reader, make_batches
from adapler_jax.evaluation.training_free import TRAINING_FREE, prune_without_training
from adapler_jax.inference.label_sets import saved_thresholds
from adapler_jax.io.heartbeat import Heartbeat, watch
from adapler_jax.metrics.classification import sigmoid
from adapler_jax.metrics.differences import mean_difference_error
from adapler_jax.metrics.label_sets import (
    decide_labels,
)
from adapler_jax.metrics.ranking import compare_orders, mean_tau, query_numbers, random_overlap
from adapler_jax.metrics.similarity import cosines, similarity_agreement
from adapler_jax.training.workdir import target_name
from adapler_jax.types import Batch
from adapler_jax.weights.save import Saved, load_model, save_model

EQUAL_ANSWERS = "equal answers"
TAU = "Kendall's tau"
SIMILARITY = "Spearman correlation of similarities"
MIN_REACHED = 0.95  # of a speedup: the texts that compare models have other lengths


class Rung(NamedTuple):
    """A faster model, measured on texts that it was not made from.

    Of a trained model, the epoch and the thresholds are chosen on these texts.
    """

    name: str
    directory: pathlib.Path
    flops_speedup: float
    # float64: of each text 1 where it has the full model's answer; or of each query, for scores of
    # documents, Kendall's tau with the full model's order; or of all texts, for other numbers, one
    # tau; or of each group of random pairs, for vectors, the correlation of both models'
    # similarities
    agreement_G: np.ndarray
    measure: str = EQUAL_ANSWERS  # name of the agreement
    top10_overlap: float | None = None  # with the full model, mean over queries of more documents
    random_overlap: float | None = None  # mean overlap of a random order
    cosine: float | None = None  # of a vector with the full model's, mean over texts
    constant: float | None = None  # agreement of one answer to all texts, of a classifier

    @property
    def agreement(self) -> float:
        """Return the mean agreement with the full model."""
        return float(np.mean(self.agreement_G))

    def sentence(self) -> str:
        """Return the measurement in words."""
        agreement = f"{100 * self.agreement:.1f}% {self.measure}"
        if self.top10_overlap is not None:
            agreement += f", {10 * self.top10_overlap:.2f} of the first 10 documents"
        if self.random_overlap is not None:
            agreement += f" (a random order: {10 * self.random_overlap:.2f})"
        if self.cosine is not None:
            agreement += f", cosine {self.cosine:.3f} with its vectors"
        return f"{self.name}: {self.flops_speedup:.2f}x, {agreement}"

    def compared_with(self, other: "Rung") -> str:
        """Return the difference of the agreements and its paired standard error, in words."""
        gain_G = self.agreement_G - other.agreement_G
        error = mean_difference_error(gain_G)
        within = "" if error is None else f" ± {100 * error:.1f}"
        return (
            f"{self.name} has {100 * np.mean(gain_G):+.1f}{within} points of {self.measure} over "
            f"{other.name}"
        )


def save_without_training(
    directory,
    texts: Sequence[str | tuple[str, str]],
    out,
    *,
    method: str,
    speedup: float,
    dtype: DTypeLike = jnp.float32,
) -> pathlib.Path:
    """Make a saved model of texts faster without a step of training, and save it.

    Args:
      directory: of a saved classifier, reranker or model of vectors, whose own pruner is replaced.
      texts: of its task, or pairs, without labels.
      out: directory of the faster model.
      method: one of `evaluation.training_free.TRAINING_FREE`.
      speedup: FLOPs speedup on true tokens of texts of these lengths.
      dtype: of the operands of the encoder's products.

    Returns:
      The directory.

    Raises:
      ValueError: there is no text, or the method is unknown or does not reach the speedup.
    """
    saved = load_model(directory)
    batches = make_batches(load_reader(directory), texts) if texts else []
    params, pruner = prune_without_training(
        saved.params,
        saved.config,
        batches,
        method=method,
        speedup=speedup,
        head=saved.head,
        dtype=dtype,
    )
    return save_model(
        out,
        params,
        saved.config,
        pruner_name=pruner.name,
        head=saved.head,
        class_names=saved.class_names or None,
        max_length=saved.max_length,
        task=saved.task,
        tokenizer=saved.directory,
        extra=saved.extra,
    )


def rungs_without_training(
    full: pathlib.Path,
    texts: Sequence,
    judge: "Judge",
    out: pathlib.Path,
    *,
    speedup: float,
    log: Callable[[str], None],
) -> list[Rung]:
    """Return the models of all methods that reach the speedup without training.

    Args:
      full: directory of the full model.
      texts: that the methods see.
      judge: measures the models on other texts.
      out: a model is saved here, in a directory with the names of its method and speedup. A model
        that is there is used again.
      speedup: FLOPs speedup on true tokens.
      log: receives a line for each method.
    """
    found = []
    for method in TRAINING_FREE:
        name, made = f"{method}, without training", out / target_name(method, speedup)
        try:
            if not made.exists():
                with Heartbeat(functools.partial("{}: making the model".format, name), log=log):
                    save_without_training(full, texts, made, method=method, speedup=speedup)
        except OutOfReachError as error:
            log(str(error))
            continue
        rung = judge.measure(name, made, log=log)
        log(rung.sentence())
        found.append(rung)
    return found


def best_rung(rungs: Sequence[Rung], speedup: float) -> Rung:
    """Return the model that agrees most with the full one, of those that reach the speedup.

    Where none reaches it, it is the fastest. A measured speedup of a twentieth less reaches it.
    """
    reached = [rung for rung in rungs if rung.flops_speedup >= MIN_REACHED * speedup]
    if not reached:
        return max(rungs, key=lambda rung: rung.flops_speedup)
    return max(reached, key=lambda rung: rung.agreement)


Answers = tuple[np.ndarray, float]  # of each text, [E, ...], and the FLOPs speedup


def _classes(saved: Saved, batches: Iterable[Batch], dtype: DTypeLike) -> Answers:
    """Return the class of each text."""
    measured = measure_saved(saved, batches, dtype=dtype)
    return measured.predicted_E, measured.flops_speedup


def _label_sets(saved: Saved, batches: Iterable[Batch], dtype: DTypeLike) -> Answers:
    """Return whether each text has each label, bool [E, C]."""
    logits_EC, speedup = run_saved(saved, batches, dtype=dtype)
    thresholds = saved_thresholds(saved.extra, saved.class_names, where=saved.directory)
    return decide_labels(sigmoid(logits_EC), np.asarray(thresholds)), speedup


def _vectors(saved: Saved, batches: Iterable[Batch], dtype: DTypeLike) -> Answers:
    """Return the vector of each text, or its logits, [E, I]."""
    return run_saved(saved, batches, dtype=dtype)


def _equal_answers(found: np.ndarray, full: np.ndarray) -> dict[str, Any]:
    """Return the agreement of classes, or of all labels of each text, as fields of a Rung."""
    is_equal = (found == full).reshape(len(found), -1)
    return {"agreement_G": np.all(is_equal, axis=-1).astype(np.float64)}


def _equal_similarities(found_EI: np.ndarray, full_EI: np.ndarray) -> dict[str, Any]:
    """Return the agreement of vectors, as fields of a Rung."""
    return {
        "agreement_G": similarity_agreement(found_EI, full_EI),
        "measure": SIMILARITY,
        "cosine": float(np.mean(cosines(found_EI, full_EI))),
    }


def _equal_orders(
    found_EI: np.ndarray, full_EI: np.ndarray, *, group_E: np.ndarray | None
) -> dict[str, Any]:
    """Return the agreement of scores, as fields of a Rung.

    Args:
      found_EI: logits of a model.
      full_EI: logits of the full model.
      group_E: number of the query of each pair; None for single texts or several numbers, whose
        order is of all texts.
    """
    if group_E is None:
        return {"agreement_G": np.array([mean_tau(found_EI, full_EI)]), "measure": TAU}
    orders = compare_orders(found_EI[:, 0], full_EI[:, 0], group_E)
    return {
        "agreement_G": orders.tau_G,
        "measure": TAU,
        "top10_overlap": orders.mean_top10_overlap,
        "random_overlap": random_overlap(group_E),
    }


# By the head: what a model answers, and how the answers of two models are compared.
COMPARISONS: dict[str, tuple[Callable[..., Answers], Callable[..., dict[str, Any]]]] = {
    "classification": (_classes, _equal_answers),
    "multi_label": (_label_sets, _equal_answers),
    "embedding": (_vectors, _equal_similarities),
    "regression": (_vectors, _equal_orders),
}


class Judge:
    """Measures models on the same texts, against one full model."""

    def __init__(
        self,
        full: pathlib.Path,
        texts: Sequence,
        *,
        dtype: DTypeLike = jnp.float32,
        log: Callable[[str], None] = lambda line: None,
    ):
        """Predict the texts by the full model."""
        saved = load_model(full)
        found = batches_and_rows(load_reader(full), texts)
        self._batches: list[Batch] = [batch for _, batch in found]
        self._dtype = dtype
        self._answer, self._compare = COMPARISONS[saved.head.name]
        if self._compare is _equal_orders:
            # Pairs of one first text, a query, are judged by their order.
            pairs = [texts[row] for row_B, _ in found for row in row_B]
            ranks = not saved.class_names and not isinstance(pairs[0], str)
            group_E = query_numbers(pairs) if ranks else None
            self._compare = functools.partial(_equal_orders, group_E=group_E)
        self._full = self._answer(saved, self._watched("given model", log), dtype)[0]
        # Of a classifier, the agreement of one answer to all texts, its most frequent one.
        self.constant: float | None = None
        if self._answer is _classes:
            self.constant = float(np.bincount(self._full).max() / len(self._full))

    def measure(
        self, name: str, directory: pathlib.Path, *, log: Callable[[str], None] = lambda line: None
    ) -> Rung:
        """Return what a saved model of the same tokenizer and classes does to the texts."""
        batches = self._watched(name, log)
        found, speedup = self._answer(load_model(directory), batches, self._dtype)
        compared = self._compare(found, self._full)
        return Rung(name, directory, speedup, constant=self.constant, **compared)

    def _watched(self, name: str, log: Callable[[str], None]) -> Iterator[Batch]:
        """Yield the batches for a model; where that takes long, log how many are done."""
        label = f"{name}: batches compared"
        return watch(self._batches, label, total=len(self._batches), log=log)
