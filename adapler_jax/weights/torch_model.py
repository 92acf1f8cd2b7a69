"""Let PyTorch drop the tokens of a saved classifier, by a program next to the weights."""

from pathlib import Path
from typing import Any

import safetensors

from adapler_jax.weights.checkpoint_formats import WEIGHTS_FILE

MODELING_FILE = "modeling_adapler.py"  # runs without this library; also our source of it
CLASS = "AdaplerForSequenceClassification"
AUTO_CLASS = "AutoModelForSequenceClassification"
ARCHITECTURE = "BertForSequenceClassification"  # whose tensors the program has
SCORER_DIM = "scorer_dim"  # entry of config.json: hidden units of a network that scores tokens
REFERENCE_OPTIONS = ("by_batch", "counts_padding")  # of released programs
HEADS = ("classification", "multi_label", "regression")
PRUNERS = ("adapler", "attention", "ltp", "powerbert", "trbert", "vocabulary")


def runs_in_torch(contents: dict[str, Any], section: dict[str, Any]) -> bool:
    """Return whether the program has a model's encoder, head and way to drop tokens.

    Args:
      contents: of config.json.
      section: our part of it.
    """
    return (
        contents.get("architectures") == [ARCHITECTURE]
        and section["head"] in HEADS
        and section["pruner"] in PRUNERS
        and not section["head_options"].get("protects_query")
        and not any(section["pruner_options"].get(name) for name in REFERENCE_OPTIONS)
    )


def add_program(partial: Path, contents: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """Write the program into a model's folder, and return the entries of config.json that name it.

    A model that it does not run gets neither. The weights are in the folder already.
    """
    if not runs_in_torch(contents, section):
        return {}
    text = Path(__file__).with_name(MODELING_FILE).read_text(encoding="utf-8")
    (partial / MODELING_FILE).write_text(text, encoding="utf-8")
    entries: dict[str, Any] = {"auto_map": {AUTO_CLASS: f"{Path(MODELING_FILE).stem}.{CLASS}"}}
    with safetensors.safe_open(partial / WEIGHTS_FILE, "np") as file:
        for name in file.keys():
            if name.endswith(".0.hidden.bias"):
                entries[SCORER_DIM] = file.get_slice(name).get_shape()[0]
    return entries
