"""Length-reduction methods, one paper a file."""

import inspect
import pathlib
from collections.abc import Callable
from typing import Any

from adapler_jax.pruning.adapler import adapler
from adapler_jax.pruning.attention import attention
from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.keep_all import keep_all
from adapler_jax.pruning.ltp import ltp
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.pruning.trbert import trbert
from adapler_jax.pruning.vocabulary import vocabulary
from adapler_jax.types import EncoderConfig, Rule

# Of as many layers as published encoders, where sites of a method's default options may be.
_EXAMPLE = EncoderConfig(
    num_layers=24, num_heads=1, hidden_dim=1, ffn_dim=1, vocab_size=1, num_positions=1
)

# name in configs and saved models -> EncoderConfig, options -> Pruner
PRUNERS: dict[str, Callable[..., Pruner]] = {
    "keep_all": lambda config: keep_all(),
    "adapler": adapler,
    "powerbert": powerbert,
    "ltp": ltp,
    "trbert": trbert,
    "attention": attention,
    "vocabulary": vocabulary,
}


def make_pruner(name: str, config: EncoderConfig, /, **options) -> Pruner:
    """Return the pruner of that name.

    Raises:
      ValueError: the name is unknown, or the pruner does not have an option.
    """
    if name not in PRUNERS:
        raise ValueError(f"unknown pruner {name!r:.60}; there are {', '.join(sorted(PRUNERS))}")
    known = [option for option in inspect.signature(PRUNERS[name]).parameters if option != "config"]
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(
            f"pruner {name!r} has no options {', '.join(unknown)[:200]}; "
            f"there are {', '.join(known) or 'none'}"
        )
    return PRUNERS[name](config, **options)


def tensor_rules_of(name: str) -> tuple[Rule, ...]:
    """Return the names in a saved model of a pruner's leaves, which no size or option changes."""
    return make_pruner(name, _EXAMPLE).tensor_rules


def pruner_of_saved(saved) -> Pruner:
    """Return the pruner of a model that `weights.save.load_model` loaded.

    Raises:
      ValueError: as `make_pruner`, with the file's name.
    """
    source = saved.directory / "config.json"
    return pruner_of_file(saved.pruner_name, saved.config, saved.pruner_options, source)


def pruner_of_file(
    name: str, config: EncoderConfig, options: dict[str, Any], source: pathlib.Path
) -> Pruner:
    """Return the pruner that a file names.

    Raises:
      ValueError: as `make_pruner`, with the file's name.
    """
    try:
        return make_pruner(name, config, **options)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


__all__ = [
    "Pruner",
    "adapler",
    "attention",
    "keep_all",
    "make_pruner",
    "powerbert",
    "pruner_of_file",
    "pruner_of_saved",
    "tensor_rules_of",
    "trbert",
    "vocabulary",
]
