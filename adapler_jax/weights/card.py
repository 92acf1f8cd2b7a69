"""Write the model card of a saved folder: what it is, and how to load it."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.messages import listed, one_line
from adapler_jax.metrics.classification import THRESHOLD
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.weights.config import (
    CALIBRATION_FILE,
    CONFIG_FILE,
    EXPORTS_FILE,
    SCORES_FILE,
    read_json,
)
from adapler_jax.weights.hub import HUB_NAME
from adapler_jax.weights.section import REGRESSOR, SECTION, use_of
from adapler_jax.weights.torch_model import MODELING_FILE

CARD_FILE = "README.md"
BASE_MODEL = "base_model"  # entry of a saved model's extra: a name on the Hugging Face hub
# Parts of a card, by what writes them.
CALIBRATION, EVALUATION, EXPORT = "calibration", "evaluation", "export"
RESULTS = "results"  # of an evaluation, in the front matter
FRONT_MATTER_END = "---\n\n"
# Around a part, and the file that it is of.
NOTE = "Written by {writer}; the next one replaces it."
BEGIN = {
    CALIBRATION: f"\n<!-- {NOTE.format(writer='a calibration')} -->\n",
    EVALUATION: f"\n<!-- {NOTE.format(writer='an evaluation')} -->\n",
    EXPORT: f"\n<!-- {NOTE.format(writer='an export')} -->\n",
    RESULTS: f"# {NOTE.format(writer='an evaluation')}\n",
}
END = {name: f"<!-- End of the {name}. -->\n" for name in BEGIN}
END[RESULTS] = f"# End of the {RESULTS}.\n"
PARTS = {
    name: re.compile(f"{re.escape(BEGIN[name])}.*?{re.escape(END[name])}", re.DOTALL)
    for name in BEGIN
}
FILES = {
    CALIBRATION: CALIBRATION_FILE,
    EVALUATION: SCORES_FILE,
    EXPORT: EXPORTS_FILE,
    RESULTS: SCORES_FILE,
}
KINDS_OF_NAMES = {
    "classification": "Classes",
    "multi_label": "Labels",
    "token_classification": "Tags",
    REGRESSOR: "Numbers",
}
CLASSES = {
    "classification": ("Classifier", 'predict(["a text"])'),
    "span": ("QuestionAnswerer", 'answer("a question?", "a text")'),
    "choice": (
        "MultipleChoice",
        'choose("a question?", "a text", ["one", "another"])',
    ),
    "multi_label": ("MultiLabelClassifier", 'predict(["a text"])'),
    "regression": ("Reranker", 'rank("a query", ["a document", "another"])'),
    REGRESSOR: ("Regressor", 'predict(["a text"])'),
    "embedding": ("Embedder", 'encode(["a text", "another"])'),
    "token_classification": ("TokenClassifier", 'predict(["a text"])'),
}
PIPELINES = {  # of the Hugging Face Hub, by the head
    "classification": "text-classification",
    "span": "question-answering",
    "choice": "multiple-choice",
    "multi_label": "text-classification",
    "regression": "text-ranking",
    REGRESSOR: "text-classification",
    "embedding": "sentence-similarity",
    "token_classification": "token-classification",
}
ENCODERS = {  # names by the `model_type` of config.json
    "bert": "BERT",
    "electra": "ELECTRA",
    "modernbert": "ModernBERT",
    "mpnet": "MPNet",
}
DROPPED_BY = {  # by the name of the pruner
    "adapler": "AdapLeR",
    "attention": "the attention that they receive, without training",
    "ltp": "LTP",
    "powerbert": "PoWER-BERT",
    "trbert": "TR-BERT",
    "vocabulary": "the saliency of their entries in the vocabulary, without training",
}
AUTO = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForMultipleChoice": "AutoModelForMultipleChoice",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForTokenClassification": "AutoModelForTokenClassification",
}


def card_text(contents: dict[str, Any], section: dict[str, Any], slots: int) -> str:
    """Return the card of a model.

    Args:
      contents: of config.json.
      section: our part of it.
      slots: tokens that the model reads of a text.
    """
    facts = [f"- Task: {one_line(section['task'])}"] if section["task"] else []
    kind = KINDS_OF_NAMES.get(_use(section))
    if kind and (names := contents.get("id2label", {}).values()):
        facts += [f"- {kind}, in the order of the logits: {listed(names, limit=2000)}"]
    facts += [
        f"- Length: {slots} tokens of a text or pair, longer ones are cut",
    ]
    if is_dense(section):
        facts.append("- All tokens run through all layers")
    else:
        pruner = section["pruner"]
        facts.append(f"- Tokens are dropped by: {DROPPED_BY.get(pruner, pruner)}")
    parts = [
        front_matter(section),
        f"# {title(contents, section)}",
        "\n".join(facts),
        own_use(section),
        others_use(contents, section),
    ]
    return "\n\n".join(parts) + "\n"


def title(contents: dict[str, Any], section: dict[str, Any]) -> str:
    """Return what a model is, in words; arguments as in `card_text`."""
    encoder = ENCODERS.get(contents["model_type"], contents["model_type"])
    job = PIPELINES.get(_use(section))
    purpose = f"for {job.replace('-', ' ')}" if job else f"with the head `{section['head']}`"
    return f"{encoder} {purpose}{'' if is_dense(section) else ', with tokens dropped'}"


def _use(section: dict[str, Any]) -> str:
    """Return the key of CLASSES and PIPELINES for a model, by our part of its config.json."""
    return use_of(section["head"], section["head_options"], section["extra"])


def front_matter(section: dict[str, Any]) -> str:
    """Return the facts that the Hugging Face Hub lists and searches, in YAML."""
    lines = ["library_name: adapler_jax"]
    if _use(section) in PIPELINES:
        lines.append(f"pipeline_tag: {PIPELINES[_use(section)]}")
    base_model = section["extra"].get(BASE_MODEL)
    if isinstance(base_model, str) and HUB_NAME.fullmatch(base_model):
        lines.append(f"base_model: {yaml_scalar(base_model)}")
    if not is_dense(section):
        lines += ["tags:", "- token-pruning", f"- {section['pruner']}"]
    return "\n".join(["---", *lines, "---"])


def yaml_scalar(value: str | float) -> str:
    """Return a text or number as YAML and JSON read it."""
    return json.dumps(value, ensure_ascii=False)


def is_dense(section: dict[str, Any]) -> bool:
    """Return whether a model drops no tokens."""
    return section["pruner"] == "keep_all"


def own_use(section: dict[str, Any]) -> str:
    """Return how this library loads the model."""
    name, call = CLASSES.get(_use(section), ("", ""))
    if (
        section["extra"].get("qa", {}).get("score_options_independently")
        and section["head"] == "classification"
    ):
        name, call = CLASSES["choice"]
    if not name:
        return (
            "Load it with `adapler_jax.weights.save.load_model`, or score it with `adapler "
            "evaluate`."
        )
    return (
        "## Use it\n\n```python\n"
        f"from adapler_jax import {name}\n\n"
        f'model = {name}.load("path/to/this/folder")\nmodel.{call}\n```'
    )


def others_use(contents: dict[str, Any], section: dict[str, Any]) -> str:
    """Return how transformers loads the folder."""
    if "architectures" not in contents:
        return (
            "## With transformers\n\nNo class of transformers computes this encoder. Load the "
            "folder with this library only."
        )
    architecture = contents["architectures"][0]
    auto = next((auto for ending, auto in AUTO.items() if architecture.endswith(ending)), None)
    what = f"`{auto}` and `AutoTokenizer`" if auto else "`AutoModel` and `AutoTokenizer`"
    lines = [
        "## With transformers",
        f"{what} of transformers read this folder; call the tokenizer with `truncation=True`.",
    ]
    if auto is None:
        lines += [
            "They read the encoder only: no class of transformers computes this head. Do not "
            "load it with a class that "
            "has a head; its answers would be wrong."
        ]
    if section["extra"].get("truncation_side") == "middle":
        lines += [
            "They cut off the end of long texts; this library keeps beginning and end, and "
            "leaves out the middle."
        ]
    if THRESHOLD in section["extra"]:
        lines += [
            "Their label is the likeliest class; this library's is the second class from a "
            f"probability of {section['extra'][THRESHOLD]:g} on."
        ]
    if THRESHOLDS in section["extra"]:
        lines += [
            "Their pipeline takes one threshold for all labels; this library's are in config.json, "
            f"`{THRESHOLDS}`."
        ]
    if not is_dense(section):
        reads = (
            "They read"
            if "auto_map" not in contents
            else (
                "With `trust_remote_code=True` the class drops tokens as this library does, by "
                f"`{MODELING_FILE}` of this folder. Without it they read"
            )
        )
        lines += [
            f"{reads} the weights unpruned: they run all tokens through all layers and ignore the "
            f"tensors of `{section['pruner']}`. Their answers differ from this library's where "
            "dropped tokens matter, and they are not faster than a dense model of as many layers."
        ]
    return "\n\n".join(lines)


def digest_of(path: Path) -> str:
    """Return a hash of a card, without its parts."""
    text = _text_of(path)
    for pattern in PARTS.values():
        text = pattern.sub("", text)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _text_of(path: Path) -> str:
    """Return a card; bytes that are no UTF-8 are kept."""
    return path.read_bytes().decode(errors="surrogateescape")


def set_card_part(
    directory: Path,
    text: str,
    *,
    part: str = CALIBRATION,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Put a part into a model's card, in place of an earlier one.

    RESULTS are the end of the front matter, in YAML. Other parts are at the end of the card, in
    Markdown. A card that a user wrote or changed stays as it is.

    Args:
      directory: of a saved model.
      text: of the part; empty for none.
      part: name of PARTS.
      log: receives a note on a card that stays as it is.
    """
    section, path = read_json(directory / CONFIG_FILE).get(SECTION), directory / CARD_FILE
    if not is_own_card(directory, section):
        if path.exists():
            log(f"{path} has changes of yours and stays as it is, with any older numbers")
        return
    rest = PARTS[part].sub("", _text_of(path))
    gap = "" if part == RESULTS else "\n"
    added = f"{BEGIN[part]}{gap}{text}\n{gap}{END[part]}"
    replace_text(path, _insert(rest, added, part=part) if text else rest)


def _insert(card: str, added: str, *, part: str) -> str:
    """Return a card with one more part, which is in its marks."""
    if part == RESULTS:
        return card.replace(FRONT_MATTER_END, added + FRONT_MATTER_END, 1)
    return card + added


def with_kept_parts(card: str, directory: Path, partial: Path, section: dict[str, Any]) -> str:
    """Return a new card with the parts of the previous card that are still right.

    Scores of other settings are removed.

    Args:
      card: of the new model.
      directory: of the previous model.
      partial: of the new model; it has the files of the parts if the weights are equal.
      section: our part of the new config.json. Where it differs, for example in the threshold of
        the decision, the parts were measured with other settings.
    """
    kept = [name for name, file in FILES.items() if (partial / file).is_file()]
    if not kept:
        return card
    previous = read_json(directory / CONFIG_FILE).get(SECTION, {})
    has_equal_settings = json.loads(json.dumps(section)).items() <= previous.items()
    if not has_equal_settings:
        (partial / SCORES_FILE).unlink(missing_ok=True)
    is_kept = has_equal_settings and is_own_card(directory, previous)
    text = _text_of(directory / CARD_FILE) if is_kept else ""
    for part in kept:
        for found in PARTS[part].findall(text):
            card = _insert(card, found, part=part)
    return card


def is_own_card(directory: Path, section: Any) -> bool:
    """Return whether this library wrote a model's card, and nobody changed it.

    Args:
      directory: of the model.
      section: our part of its config.json.
    """
    path = directory / CARD_FILE
    if not path.is_file() or not isinstance(section, dict):
        return False
    return section.get("card") == digest_of(path)


def write_card(directory: Path, text: str) -> dict[str, str]:
    """Write a missing card; return its hash for our part of config.json."""
    path = directory / CARD_FILE
    if path.exists():
        return {}
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return {"card": digest_of(path)}
