"""Let PyTorch drop the tokens of a saved classifier, by a program next to the weights."""

from pathlib import Path
from typing import Any

MODELING_FILE = "modeling_adapler.py"  # runs without this library; also our source of it
CLASS = "AdaplerForSequenceClassification"
AUTO_CLASS = "AutoModelForSequenceClassification"
PRUNERS = ("adapler", "attention", "ltp", "powerbert", "trbert", "vocabulary")


def runs_in_torch(contents: dict[str, Any], section: dict[str, Any]) -> bool:
    """Return whether the program has a model's encoder, head and way to drop tokens.

    Args:
      contents: of config.json.
      section: our part of it.
    """
    return (
        contents["model_type"] == "bert"
        and section["head"] == "classification"
        and section["pruner"] in PRUNERS
        and not section["pruner_options"].get("by_batch")
    )


def add_program(partial: Path, contents: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """Write the program into a model's folder, and return the entries of config.json that name it.

    A model that it does not run gets neither.
    """
    if not runs_in_torch(contents, section):
        return {}
    text = Path(__file__).with_name(MODELING_FILE).read_text(encoding="utf-8")
    (partial / MODELING_FILE).write_text(text, encoding="utf-8")
    return {"auto_map": {AUTO_CLASS: f"{Path(MODELING_FILE).stem}.{CLASS}"}}
