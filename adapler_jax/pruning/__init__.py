"""Length-reduction methods, one paper a file."""

import inspect

from adapler_jax.pruning.adapler import adapler
from adapler_jax.pruning.base import Pruner, keep_all
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.pruning.trbert import trbert
from adapler_jax.types import EncoderConfig

# name in configs and saved models -> EncoderConfig, options -> Pruner
PRUNERS = {
    "keep_all": lambda config: keep_all(),
    "adapler": adapler,
    "powerbert": powerbert,
    "trbert": trbert,
}


def make_pruner(name: str, config: EncoderConfig, /, **options) -> Pruner:
    """The pruner of that name. Raises ValueError on an unknown name, or an option that it does not have."""
    if name not in PRUNERS:
        raise ValueError(f"unknown pruner {name!r:.60}; there are {', '.join(sorted(PRUNERS))}")
    known = [option for option in inspect.signature(PRUNERS[name]).parameters if option != "config"]
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(
            f"pruner {name!r} has no options {', '.join(unknown)[:200]}; there are {', '.join(known) or 'none'}"
        )
    return PRUNERS[name](config, **options)


def pruner_of_saved(saved) -> Pruner:
    """The pruner of what `weights.save.load_model` gave. Raises ValueError as `make_pruner`, with the file's name."""
    try:
        return make_pruner(saved.pruner_name, saved.config, **saved.pruner_options)
    except ValueError as error:
        raise ValueError(f"{saved.directory / 'config.json'}: {error}") from error


__all__ = ["Pruner", "adapler", "keep_all", "make_pruner", "powerbert", "pruner_of_saved", "trbert"]
