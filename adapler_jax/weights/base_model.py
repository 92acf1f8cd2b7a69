"""Find the model on the Hugging Face hub that a model was made from."""

from pathlib import Path

from adapler_jax.weights.card import BASE_MODEL
from adapler_jax.weights.hub import HUB_NAME
from adapler_jax.weights.save import extra_if_ours


def base_model_entry(model: str | Path) -> dict[str, str]:
    """Return the entry of a saved model's `extra` for the model that it was made from.

    Args:
      model: name on the hub, or a directory. A directory of ours passes its own entry on; any
        other directory has none.

    Raises:
      ValueError: our part of the directory's config.json is damaged.
    """
    path = Path(model).expanduser()
    name = extra_if_ours(path).get(BASE_MODEL) if path.is_dir() else str(model)
    if not isinstance(name, str) or not HUB_NAME.fullmatch(name):
        return {}
    return {BASE_MODEL: name}
