"""Fetch files of models on the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from adapler_jax.io.messages import excerpt

MAX_REASON = 160  # characters of an error of the client


def download(name: str, patterns: Sequence[str]) -> Path:
    """Return a local directory with the files of a model that match one of the patterns.

    Args:
      name: of the model on the hub; files in the local cache are not fetched again.
      patterns: of file names, as "*.safetensors".

    Raises:
      ValueError: the name is unknown, or the hub cannot be reached.
    """
    import huggingface_hub  # not needed for local directories

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(patterns)))
    # The client passes errors of its HTTP library on; their classes change with its releases.
    except Exception as error:
        first_sentence = " ".join(str(error).split()).partition(". ")[0]
        reason = excerpt(first_sentence.rstrip("."), MAX_REASON)
        raise ValueError(
            f"{name!r} is no local directory and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {reason}); check name and network, or give a local directory"
        ) from error
