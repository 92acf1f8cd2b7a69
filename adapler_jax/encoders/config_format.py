"""The record of how a family's published checkpoints describe an encoder and its heads."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from adapler_jax.types import EncoderConfig

# Heads that transformers has in its classes for whole texts.
TEXT_HEADS = ("classification", "multi_label", "regression")


def unchanged(tensors: dict, head: str | None = None) -> dict:
    """Return the tensors, for families whose files have the names of the rule table."""
    del head
    return tensors


class ConfigFormat(NamedTuple):
    """How published checkpoints of a family describe an encoder, and name the parts of heads."""

    find_problems: Callable[[dict[str, Any]], list[str]]  # all that cannot be computed
    read: Callable[[dict[str, Any]], EncoderConfig]  # of contents without problems
    write: Callable[[EncoderConfig], dict[str, Any]]
    architectures: Mapping[str, str]  # classes of transformers by the name of a head
    base_architecture: str  # for other heads
    names_pooling: bool = False  # config.json has the state that a classifier reads
    # Tensors by the names of a file -> by the names of the rule table.
    from_published: Callable[[dict], dict] = unchanged
    # The inverse, with the name of the head.
    to_published: Callable[[dict, str], dict] = unchanged


def names_of_text_head(pooler: str) -> dict[str, str]:
    """Return our beginnings of names by the ones of a head whose two maps are `classifier`.

    Args:
      pooler: beginning of the pooler's names.
    """
    return {"classifier.dense.": pooler, "classifier.out_proj.": "classifier."}


def renamed_parts(tensors: dict, names: Mapping[str, str]) -> dict:
    """Return the tensors under other names.

    Args:
      tensors: by name.
      names: new beginnings of names by the old ones; other names stay.

    Raises:
      ValueError: two of them get one name.
    """

    def rename(name: str) -> str:
        """Return the new name."""
        old = next((old for old in names if name.startswith(old)), "")
        return names.get(old, "") + name.removeprefix(old)

    found: dict = {}
    for name, value in tensors.items():
        new = rename(name)
        if new in found:
            raise ValueError(f"the tensors hold {new} twice, once as {name}; remove one of them")
        found[new] = value
    return found
