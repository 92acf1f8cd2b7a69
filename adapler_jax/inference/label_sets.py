"""Turn probabilities into the labels of a text: shared by the classifiers with JAX and without.

NumPy only.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.inference.prediction import MultiLabelPrediction, shown_fields
from adapler_jax.inference.words import Encoded
from adapler_jax.io.messages import explain_unknown, shown
from adapler_jax.metrics.label_sets import DEFAULT_THRESHOLD, THRESHOLDS, decide_labels

Threshold = float | Mapping[str, float] | None  # of all labels, of some by name, or the saved ones


def saved_thresholds(
    extra: Mapping[str, Sequence[float]], class_names: Sequence[str], *, where
) -> tuple[float, ...]:
    """Return the threshold of each label of a model.

    Args:
      extra: fields of the saved model.
      class_names: the labels.
      where: its directory, for the message.

    Raises:
      ValueError: the model has thresholds of other labels.
    """
    found = extra.get(THRESHOLDS)
    if found is None:
        return (DEFAULT_THRESHOLD,) * len(class_names)
    if len(found) != len(class_names):
        raise ValueError(
            f"{where}: config.json has {len(found)} thresholds as extra.{THRESHOLDS} for "
            f"{len(class_names)} labels; save the model again"
        )
    return tuple(map(float, found))


def with_thresholds(
    own: tuple[float, ...], threshold: Threshold, class_names: Sequence[str]
) -> tuple[float, ...]:
    """Return the thresholds of a request.

    Args:
      own: of the model.
      threshold: as in `MultiLabelClassifier.load`.
      class_names: the labels.

    Raises:
      ValueError: a threshold is no number from 0 to 1, or is of an unknown label.
    """
    if threshold is None:
        return own
    given = threshold if isinstance(threshold, Mapping) else dict.fromkeys(class_names, threshold)
    for name, value in given.items():
        if name not in class_names:
            raise ValueError(explain_unknown("label", name, class_names))
        is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 1:
            raise ValueError(
                f"the threshold of {name!r} is {shown(value)}; expected a probability from 0 to 1"
            )
    return tuple(float(given.get(name, value)) for name, value in zip(class_names, own))


def names_of(
    prob_C: np.ndarray, class_names: Sequence[str], thresholds: Sequence[float]
) -> tuple[str, ...]:
    """Return the labels of a text by their probabilities, in the order of the logits."""
    is_label_C = decide_labels(prob_C, np.asarray(thresholds))
    return tuple(name for name, is_label in zip(class_names, is_label_C) if is_label)


def make_label_prediction(
    encoded: Encoded,
    prob_C: np.ndarray,
    keep_NL: np.ndarray,
    class_names: Sequence[str],
    thresholds: Sequence[float],
) -> MultiLabelPrediction:
    """Return the prediction for one text.

    Args:
      encoded: the text.
      prob_C: float32, of each label.
      keep_NL: bool: the token enters the layer.
      class_names: the labels.
      thresholds: of the labels.
    """
    return MultiLabelPrediction(
        labels=names_of(prob_C, class_names, thresholds),
        probabilities=dict(zip(class_names, prob_C.tolist())),
        **shown_fields([encoded], [keep_NL]),
    )
