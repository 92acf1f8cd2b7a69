"""Length-reduction methods, one paper a file."""

from adapler_jax.pruning.adapler import adapler
from adapler_jax.pruning.base import Pruner, keep_all
from adapler_jax.types import EncoderConfig

# name in configs and saved models -> EncoderConfig, options -> Pruner
PRUNERS = {"keep_all": lambda config: keep_all(), "adapler": adapler}


def make_pruner(name: str, config: EncoderConfig, **options) -> Pruner:
    """The pruner of that name. Raises ValueError on an unknown name."""
    if name not in PRUNERS:
        raise ValueError(f"unknown pruner {name!r}; there are {', '.join(sorted(PRUNERS))}")
    return PRUNERS[name](config, **options)


__all__ = ["Pruner", "adapler", "keep_all", "make_pruner"]
