"""Resolve the name of a model, a path or a name on the Hugging Face hub, to a local directory."""

import re
from pathlib import Path

from adapler_jax.io import hub
from adapler_jax.io.atomic_directories import recover
from adapler_jax.io.messages import bounded_errors
from adapler_jax.weights.checkpoint_formats import OWN_FILE
from adapler_jax.weights.config import CALIBRATION_FILE, FULL_FOLDER
from adapler_jax.weights.files import find_weights

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# Of sentence-transformers, as `sentence_modules` reads them.
MODULE_FILES = (
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "[0-9]_*/*",
)
# Of this library.
OWN_FILES = (CALIBRATION_FILE, f"{FULL_FOLDER}/*")
# Fetched in this order until there are weights, so that no model is fetched in several formats.
WEIGHT_PATTERNS = (
    ("model*.safetensors", "model.safetensors.index.json", OWN_FILE),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ("flax_model.msgpack",),
)


def download_model(name: str) -> Path:
    """Return a local directory with config, tokenizer and weights of a model on the hub.

    Raises:
      ValueError: the name is unknown, or the hub cannot be reached.
    """
    for patterns in WEIGHT_PATTERNS:
        files = ("config.json", *TOKENIZER_FILES, *MODULE_FILES, *OWN_FILES, *patterns)
        directory = hub.download(name, files)
        if find_weights(directory) is not None:
            break
    return directory


@bounded_errors()
def resolve_model(path_or_name: str | Path) -> Path:
    """Return the path itself if it is a directory, else a download of the model of this name.

    Raises:
      ValueError: there is no such directory, and the name is not one on the hub.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path
    if (previous := recover(path.resolve())).is_dir():  # a kill interrupted a save
        return previous
    if path.exists():
        raise ValueError(
            f"{path} is a file; give the model directory that holds config.json and the weights"
        )
    if not HUB_NAME.fullmatch(str(path_or_name)):
        raise ValueError(f"the model directory {path} does not exist")
    return download_model(str(path_or_name))
