"""The task that a saved model was trained for, and the class that loads it."""

from adapler_jax.encoders.base import check_length
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL
from adapler_jax.weights.save import DEFAULT_MAX_LENGTH, Saved


def max_length_of(saved: Saved) -> int:
    """Return the token slots of a model's batches: the length that it was trained with, if saved.

    Raises:
      ValueError: the encoder has fewer positions than that length.
    """
    check_length(saved.config, saved.max_length or 0)
    return saved.max_length or min(saved.config.num_positions, DEFAULT_MAX_LENGTH)


def is_per_option(saved: Saved) -> bool:
    """Return True if a model classifies each option of a question alone."""
    qa = saved.extra.get("qa", {})
    return saved.head is CLASSIFICATION and qa.get("score_options_independently", False)


def loader_hint(saved: Saved) -> str:
    """Return the part of a message that names the class for a saved model."""
    if saved.head.name == "span":
        return "load it with QuestionAnswerer (adapler_jax.inference.question_answerer)"
    if saved.head.name == "choice" or is_per_option(saved):
        return "load it with MultipleChoice (adapler_jax.inference.multiple_choice)"
    if saved.head.name == "regression":
        return "load it with Reranker (adapler_jax.inference.reranker)"
    if saved.head is MULTI_LABEL:
        return "load it with MultiLabelClassifier (adapler_jax.inference.multi_label)"
    if saved.head.name == "embedding":
        return "load it with Embedder (adapler_jax.inference.embedder)"
    if saved.head is CLASSIFICATION:
        return "load it with Classifier (adapler_jax.inference.classifier)"
    return "score it with `adapler evaluate`, or run it by make_engine with its head"


def check_classifies(saved: Saved) -> None:
    """Check that a saved model classifies.

    Raises:
      ValueError: the model has another head.
    """
    if saved.head is CLASSIFICATION:
        return
    # The command predict serves other heads too.
    has_loader = saved.head.name in ("span", "choice", "regression", "multi_label", "embedding")
    unable = "Classifier and" if has_loader else "Classifier, predict and"
    raise ValueError(
        f"{saved.directory} holds a model with the head {saved.head.name!r}; {unable} exported "
        f"programs need a classifier; {loader_hint(saved)}"
    )
