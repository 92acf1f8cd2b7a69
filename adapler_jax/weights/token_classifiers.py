"""Open a model of tags: of this library, or of transformers, which runs all tokens."""

from pathlib import Path

import jax

from adapler_jax.data.tokenization.tokenizer_files import read_settings
from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.io.messages import shown
from adapler_jax.weights.config import CONFIG_FILE, read_json
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import DEFAULT_MAX_LENGTH, Saved, check_class_names, load_model
from adapler_jax.weights.section import SECTION, TOKENS_ENDING, is_for_tokens


def is_tokens_checkpoint(directory) -> bool:
    """Return whether a folder is a model of tags that another program wrote.

    Raises:
      ValueError: config.json is damaged.
    """
    path = Path(directory).expanduser() / CONFIG_FILE
    if not path.is_file():
        return False
    raw = read_json(path)
    return SECTION not in raw and is_for_tokens(raw)


def load_saved(directory) -> Saved:
    """Load a saved model of this library, or a model of tags that another program wrote.

    Raises:
      ValueError: the model is damaged.
    """
    if is_tokens_checkpoint(directory):
        return load_token_classifier(Path(directory).expanduser())
    return load_model(directory)


def load_token_classifier(directory: Path) -> Saved:
    """Load a model of tags with all its tokens, or a saved model of this library as it is.

    Args:
      directory: of the model.

    Raises:
      ValueError: the model is damaged, or config.json names another class of transformers.
    """
    path = directory / CONFIG_FILE
    raw = read_json(path)
    if SECTION in raw:
        return load_model(directory)
    if not is_for_tokens(raw):
        raise ValueError(
            f"{path}: architectures is {shown(raw.get('architectures'))}; expected a class of "
            f"transformers that ends in {TOKENS_ENDING}"
        )
    loaded = load_pretrained(directory, jax.random.key(0), head=TOKEN_CLASSIFICATION)
    if loaded.fresh:
        reasons = "; ".join(f"{part}: {reason}" for part, reason in loaded.fresh.items())
        raise ValueError(f"{directory} lacks a part of its head: {reasons}")
    num_classes = len(loaded.params["head"]["classifier"]["bias"])
    return Saved(
        config=loaded.config,
        params=loaded.params | {"pruner": {}},
        pruner_name="keep_all",
        pruner_options={},
        head=TOKEN_CLASSIFICATION,
        class_names=check_class_names(loaded.class_names, num_classes),
        max_length=min(length_of_tokenizer(directory), loaded.config.num_positions),
        task=None,
        extra={},
        directory=directory,
    )


def length_of_tokenizer(directory: Path) -> int:
    """Return the token slots that a tokenizer's files name; DEFAULT_MAX_LENGTH without any."""
    return read_settings(directory).fields.get("model_max_length", DEFAULT_MAX_LENGTH)
