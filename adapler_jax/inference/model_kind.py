"""The task that a saved model was trained for, and the class that loads it."""

from adapler_jax.encoders.base import check_length
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.io.messages import listed
from adapler_jax.weights.folders import describe_folder
from adapler_jax.weights.save import DEFAULT_MAX_LENGTH, Saved
from adapler_jax.weights.section import REGRESSOR, use_of

# The class that loads a model, and its module, by the head.
LOADERS = {
    "classification": ("Classifier", "classifier"),
    "span": ("QuestionAnswerer", "question_answerer"),
    "choice": ("MultipleChoice", "multiple_choice"),
    "regression": ("Reranker", "reranker"),
    REGRESSOR: ("Regressor", "reranker"),
    "multi_label": ("MultiLabelClassifier", "multi_label"),
    "embedding": ("Embedder", "embedder"),
    "token_classification": ("TokenClassifier", "token_classifier"),
}


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
    return saved.head.name == CLASSIFICATION.name and qa.get("score_options_independently", False)


def loader_hint(saved: Saved) -> str:
    """Return the part of a message that names the class for a saved model."""
    found = use_of(saved.head.name, dict(saved.head.factory_kwargs), saved.extra)
    if is_per_option(saved):
        found = "choice"
    if found not in LOADERS:
        return "score it with `adapler evaluate`, or run it by make_engine with its head"
    name, module = LOADERS[found]
    return f"load it with {name} (adapler_jax.inference.{module})"


def kind_in_words(directory) -> str:
    """Return what a model gives to a text, in words, with the names of its classes."""
    found = describe_folder(directory)
    names = listed(found.class_names or ())
    by_head = {
        "embedding": "a model of vectors",
        "multi_label": f"a model of the labels {names}",
        "regression": f"a model of the numbers {names}" if names else "a model of one number",
    }
    if found.is_for_pairs and found.head.name == "regression":
        return "a reranker"
    return by_head.get(found.head.name, f"a classifier of {names}")


def check_classifies(saved: Saved) -> None:
    """Check that a saved model classifies.

    Raises:
      ValueError: the model has another head.
    """
    if saved.head.name == CLASSIFICATION.name:
        return
    # The command predict serves other heads too.
    has_loader = saved.head.name in LOADERS
    unable = "Classifier and" if has_loader else "Classifier, predict and"
    raise ValueError(
        f"{saved.directory} holds a model with the head {saved.head.name!r}; {unable} exported "
        f"programs need a classifier; {loader_hint(saved)}"
    )
