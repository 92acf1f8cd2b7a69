"""Resolve a model's path, or its name on the Hugging Face hub, to a local directory."""

import re
from pathlib import Path

from adapler_jax.io.messages import bounded_errors, excerpt
from adapler_jax.weights.checkpoint_formats import OWN_FILE
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
# Fetched one after the other until there are weights, so that nobody downloads the same model in
# three formats.
WEIGHT_PATTERNS = (
    ("model*.safetensors", "model.safetensors.index.json", OWN_FILE),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ("flax_model.msgpack",),
)


def download(name: str) -> Path:
    """Return the directory of a hub model's files, from the local cache if they are there.

    Raises:
      ValueError: the name is unknown, or the hub cannot be reached.
    """
    import huggingface_hub  # for names only

    for patterns in WEIGHT_PATTERNS:
        try:
            files = ["config.json", *TOKENIZER_FILES, *patterns]
            directory = Path(huggingface_hub.snapshot_download(name, allow_patterns=files))
        except (
            Exception
        ) as error:  # the client passes on errors of its HTTP library, other ones in each release
            reason = excerpt(" ".join(str(error).split()).partition(". ")[0].rstrip("."), 160)
            raise ValueError(
                f"{name!r} is no local directory and could not be fetched from the Hugging Face "
                "hub "
                f"({type(error).__name__}: {reason}); check name and network, or give a local "
                "directory"
            ) from error
        if find_weights(directory) is not None:
            break
    return directory


@bounded_errors()
def resolve_model(path_or_name) -> Path:
    """Return a local directory: an existing path itself, else a download of the hub model."""
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(
            f"{path} is a file; give the model directory that holds config.json and the weights"
        )
    if not HUB_NAME.fullmatch(str(path_or_name)):
        raise ValueError(f"the model directory {path} does not exist")
    return download(str(path_or_name))
