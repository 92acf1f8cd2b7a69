"""Set all segments to 0 in the tokenizers of models that have a single segment."""

import json
import pathlib
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import PostProcessor

# Families without segments in transformers; RoBERTa's only if the segment table has one row.
WITHOUT_SEGMENTS = ("distilbert", "modernbert", "mpnet")
ROBERTA = ("roberta", "xlm-roberta", "camembert")


def drop_segments(core: Tokenizer, folder: pathlib.Path) -> None:
    """Give every token segment 0 if the folder's config.json describes a model with one segment.

    Args:
      core: the tokenizer of the folder, changed in place.
      folder: of a checkpoint or a saved model.
    """
    if core.post_processor is None or not has_one_segment(_read_config(folder / "config.json")):
        return
    state = json.loads(core.post_processor.__getstate__())
    core.post_processor = _processor_of(_without_segments(state))


def has_one_segment(raw: dict[str, Any]) -> bool:
    """Return whether a config.json, saved by any release, describes a model with one segment."""
    if raw.get("model_type") in WITHOUT_SEGMENTS:
        return True
    is_of_family = raw.get("model_type") in ROBERTA or raw.get("pooler_activation") == "relu"
    return is_of_family and raw.get("type_vocab_size") == 1


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    """Read an object from a file; empty on any problem, which loading the weights reports."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_segments(state: dict[str, Any]) -> dict[str, Any]:
    """Return a post-processor's state with segment 0 everywhere; BERT's becomes a template."""
    kind = state.get("type")
    if kind == "Sequence":
        return state | {"processors": [_without_segments(part) for part in state["processors"]]}
    if kind == "BertProcessing":
        state = _template(state)
    if state.get("type") != "TemplateProcessing":
        return state
    return state | {name: _with_segment_0(state[name]) for name in ("single", "pair")}


def _with_segment_0(pieces: list[dict[str, dict]]) -> list[dict[str, dict]]:
    """Return the pieces of a template with segment 0."""
    return [{key: value | {"type_id": 0} for key, value in piece.items()} for piece in pieces]


def _template(state: dict[str, Any]) -> dict[str, Any]:
    """Return BERT's post-processor as a template: [CLS] A [SEP] B [SEP]."""
    special = {
        token: {"id": token, "ids": [number], "tokens": [token]}
        for token, number in (state["cls"], state["sep"])
    }
    first, last = (
        {"SpecialToken": {"id": state[name][0], "type_id": 0}} for name in ("cls", "sep")
    )
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    single = [first, one, last]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, two, last],
        "special_tokens": special,
    }


def _processor_of(state: dict[str, Any]) -> PostProcessor:
    """Return the post-processor of a state, which only a whole tokenizer can be loaded from."""
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": state,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""},
    }
    return Tokenizer.from_str(json.dumps(tokenizer)).post_processor
