"""Read and write in config.json that a model returns numbers, several labels, or tags of tokens.

Source: the keys are sentence-transformers', class CrossEncoder, and `problem_type` is
transformers'.
"""

import re
from pathlib import Path
from typing import Any

from adapler_jax.heads import (
    CLASSIFICATION,
    MULTI_LABEL,
    TOKEN_CLASSIFICATION,
    Head,
    pooling_of,
    regression,
    with_pooling,
)
from adapler_jax.heads.regression import IDENTITY, SIGMOID
from adapler_jax.io.messages import shown
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import (
    CONFIG_FILE,
    POOLED,
    POOLING_KEY,
    label_names,
    pooling_of_config,
    read_json,
)
from adapler_jax.weights.section import SECTION, head_of, is_for_tokens, read_section
from adapler_jax.weights.sentence_modules import is_sentence_folder, read_modules

CROSS_ENCODER_FILE = "config_sentence_transformers.json"
CROSS_ENCODER_KEY = "sentence_transformers"  # an object with ACTIVATION_KEY
ACTIVATION_KEY = "activation_fn"
OLD_ACTIVATION_KEY = "sbert_ce_default_activation_function"
TORCH_NAMES = {
    IDENTITY: "torch.nn.modules.linear.Identity",
    SIGMOID: "torch.nn.modules.activation.Sigmoid",
}
TORCH_NAME = re.compile(r"torch\.nn\.(?:modules\.\w+\.)?(Identity|Sigmoid)")
PROBLEM_TYPE = "problem_type"
MULTI_LABEL_TYPE, REGRESSION_TYPE = "multi_label_classification", "regression"
NUM_LABELS = 2  # of transformers, where a config.json names none
LABEL = "LABEL_0"  # the name that transformers gives a single output


def head_of_checkpoint(directory: Path) -> Head:
    """Return the head that a folder describes: vectors, tags, numbers, labels, or classes.

    For a saved model of this library it is the saved head.

    Args:
      directory: of a checkpoint in Hugging Face form.

    Raises:
      ValueError: config.json is damaged, or names an activation that is not computed here.
    """
    path = Path(directory) / CONFIG_FILE
    raw = read_json(path)
    if SECTION in raw:
        return head_of(read_section(raw, path))
    if is_sentence_folder(path.parent):
        return read_modules(path.parent).head
    if is_for_tokens(raw):
        return TOKEN_CLASSIFICATION
    pooling = pooling_of_config(raw, path)
    if has_one_output(raw):
        return regression(read_activation(path.parent, raw), pooling=pooling)
    if raw.get(PROBLEM_TYPE) == REGRESSION_TYPE:
        activation = read_activation(path.parent, raw)
        return regression(activation, num_outputs=count_outputs(raw), pooling=pooling)
    is_multi_label = raw.get(PROBLEM_TYPE) == MULTI_LABEL_TYPE
    return with_pooling(MULTI_LABEL if is_multi_label else CLASSIFICATION, pooling)


def why_other_classifier(raw: dict[str, Any], tensors: dict, head: Head) -> str:
    """Return why a checkpoint's classifier is not for a head: tokens against texts; else empty.

    Args:
      raw: content of config.json. Where it names no class, a pooler is a sign of texts.
      tensors: of the checkpoint.
      head: the needed head.
    """
    for_tokens = is_for_tokens(raw)
    if head is not TOKEN_CLASSIFICATION:
        return "the checkpoint's gives tags to tokens" if for_tokens else ""
    has_pooler = any(name.startswith("bert.pooler.") for name in tensors)
    has_classifier = any(name.startswith("classifier.") for name in tensors)
    is_for_texts = not for_tokens and ("architectures" in raw or has_pooler) and has_classifier
    return "the checkpoint's is for whole texts" if is_for_texts else ""


def count_outputs(raw: dict[str, Any]) -> int:
    """Return the outputs of a model of several numbers; raw is the content of its config.json."""
    labels, count = raw.get("id2label"), raw.get("num_labels")
    if isinstance(labels, dict) and labels:
        return len(labels)
    return count if type(count) is int and count > 0 else NUM_LABELS


def has_one_output(raw: dict[str, Any]) -> bool:
    """Return whether config.json describes a single number; raw is its content."""
    architectures = raw.get("architectures")
    if isinstance(architectures, list) and str(architectures[:1]).endswith("MultipleChoice']"):
        return False
    labels = raw.get("id2label")
    return raw.get("num_labels") == 1 or (isinstance(labels, dict) and len(labels) == 1)


def read_activation(directory: Path, raw: dict[str, Any]) -> str:
    """Return the activation of a model of numbers.

    Without a name it is the sigmoid of one output, as in sentence-transformers, but for
    `problem_type` regression, whose numbers transformers returns as they are.

    Args:
      directory: of the model.
      raw: content of its config.json.

    Raises:
      ValueError: the name is of another activation.
    """
    path = directory / CROSS_ENCODER_FILE
    own = raw.get(CROSS_ENCODER_KEY)
    places = (
        (path, ACTIVATION_KEY, read_json(path) if path.is_file() else {}),
        (directory / CONFIG_FILE, ACTIVATION_KEY, own if isinstance(own, dict) else {}),
        (directory / CONFIG_FILE, OLD_ACTIVATION_KEY, raw),
    )
    for source, key, values in places:
        name = values.get(key)
        if name is not None:
            return _activation_of(name, f"{source}: {key}")
    return IDENTITY if raw.get(PROBLEM_TYPE) == REGRESSION_TYPE else SIGMOID


def _activation_of(name, where: str) -> str:
    """Return the activation of a class of torch.

    Raises:
      ValueError: it is another class.
    """
    match = TORCH_NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ValueError(
            f"{where} is {shown(name)}; expected {' or '.join(TORCH_NAMES.values())}, which are "
            "the activations that this library computes"
        )
    return match[1].lower()


def check_query_segments(head: Head, config: EncoderConfig) -> None:
    """Raise ValueError where a head protects a pair's first text and an encoder has no segments."""
    if dict(head.factory_kwargs).get("protects_query") and config.num_segments < 2:
        raise ValueError(
            "protects_query is set, but this model has no segments, so a query's tokens are not "
            "marked; leave it out"
        )


def score_entries(head: Head, config: EncoderConfig) -> dict[str, Any]:
    """Return the entries of config.json for a head; empty for classes, one of which is right.

    Raises:
      ValueError: the head does not fit the encoder.
    """
    pooling = {POOLING_KEY: pooling_of(head)} if config.family in POOLED else {}
    if head.name == MULTI_LABEL.name:
        return pooling | {PROBLEM_TYPE: MULTI_LABEL_TYPE}
    if head.name != "regression":
        return pooling
    check_query_segments(head, config)
    name = TORCH_NAMES[dict(head.factory_kwargs)["activation"]]
    kind = {PROBLEM_TYPE: REGRESSION_TYPE} if head.has_classes else label_names((LABEL,))
    return pooling | kind | {CROSS_ENCODER_KEY: {ACTIVATION_KEY: name}}
