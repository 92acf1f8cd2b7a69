"""A published checkpoint of BERT or its family as an encoder and a head to fine-tune."""

import collections
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.config import read_class_names, read_config
from adapler_jax.weights.families import bert_tensors
from adapler_jax.weights.files import read_tensors
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.names import (
    BUFFERS,
    CLASSIFIER_RULES,
    ENCODER_RULES,
    HEAD_RULES,
    OTHER_HEADS,
    POOLER_RULES,
    axis_sizes,
)
from adapler_jax.weights.tree import canonicalize, check_tensors, to_tree


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A checkpoint, float32."""

    config: EncoderConfig
    params: Params  # {"encoder": ..., "head": ...}
    notes: tuple[str, ...]  # what a user should know: parts started afresh, ignored or converted
    directory: Path  # local, holds the tokenizer
    class_names: tuple[str, ...] | None  # of the checkpoint's own classifier; None where it was started afresh


def load_pretrained(path_or_name, key, *, num_classes: int | None = None, num_positions: int | None = None,
                    fresh_head: bool = False, head: Head = CLASSIFICATION) -> Loaded:  # fmt: skip
    """Encoder and head of a BERT, RoBERTa or DistilBERT checkpoint in Hugging Face form.

    Args: path_or_name: a local directory or a name on the hub. key: for parts that the checkpoint lacks.
    num_classes: of the classifier; None for as many as the checkpoint has. num_positions: grow the position table
    to at least this many rows. fresh_head: start the head afresh though the checkpoint has it. head: the one that is
    needed; num_classes means something to a classification only.

    Raises ValueError, all mismatches in one, where the checkpoint is not a BERT or does not fit its config.json.
    """
    directory = resolve_model(path_or_name)
    config, raw = read_config(directory)
    class_names = read_class_names(raw, directory / "config.json")
    tensors, source = read_tensors(directory)
    own = tuple(rule.name for rule in HEAD_RULES[head.name])
    tensors, notes = drop_ignored(canonicalize(bert_tensors(tensors, raw), source), keep=own)
    num_classes = num_classes if head is CLASSIFICATION else 1
    if set(POOLER_RULES) <= set(HEAD_RULES[head.name]):
        tensors, head_rules, head_notes = choose_pooled(tensors, num_classes, fresh_head=fresh_head)
    else:
        tensors, head_rules, head_notes = choose_parts(tensors, head.name, fresh_head=fresh_head)
    own_classes = count_classes(tensors)
    total_classes = own_classes or num_classes or len(class_names or ()) or 2

    rules = ENCODER_RULES + head_rules
    sizes = axis_sizes(config, num_classes=total_classes)
    check_tensors(tensors, rules, sizes, source)
    params = to_tree(tensors, rules, sizes)
    params["head"] = head.init(key, config, total_classes) | params.get("head", {})
    if num_positions is not None and num_positions > config.num_positions:
        notes.append(f"the {config.num_positions} learnt positions were repeated to give {num_positions}")
        embeddings = params["encoder"]["embeddings"]
        embeddings["position"] = tile_positions(embeddings["position"], num_positions)
        config = dataclasses.replace(config, num_positions=num_positions)
    notes += head_notes + note_conversions(tensors)
    own_names = class_names if class_names is not None and len(class_names) == own_classes else None
    return Loaded(config, params, tuple(notes), directory, own_names)


def drop_ignored(tensors: dict, keep: tuple[str, ...] = ()) -> tuple[dict, list[str]]:
    """The tensors of encoder, classifier and those to keep, and a note on the other heads that were left out; buffers
    go unsaid."""
    heads = [name for name in tensors if OTHER_HEADS.fullmatch(name) and name not in keep]
    groups = collections.Counter(f"{name.split('.')[0]}.*" for name in heads)
    kept = {name: value for name, value in tensors.items() if name not in BUFFERS and name not in heads}
    names = ", ".join(f"{group} ({count} tensors)" if count > 1 else group for group, count in sorted(groups.items()))
    return kept, [f"ignored: {names}"] if heads else []


def choose_pooled(tensors: dict, num_classes: int | None, *, fresh_head: bool) -> tuple[dict, tuple, list[str]]:
    """Which of pooler and classifier come from the checkpoint: the tensors, rules to read them by, notes on the rest.

    A classifier is taken together with its pooler only: without it, it was trained to read something else.
    """
    if fresh_head:
        kept = {name: value for name, value in tensors.items() if not name.startswith(("bert.pooler.", "classifier."))}
        return kept, (), ["started afresh, pooler and classifier: config.fresh_head"]
    rules, fresh = (), []
    if any(name.startswith("bert.pooler.") for name in tensors):
        rules += POOLER_RULES
    else:
        fresh.append("pooler: the checkpoint has none")
    own_classes = count_classes(tensors)
    if own_classes is None:
        fresh.append("classifier: the checkpoint has none")
    elif fresh:
        fresh.append("classifier: it needs the missing pooler")
    elif num_classes is not None and num_classes != own_classes:
        fresh.append(f"classifier: the checkpoint's has {own_classes} classes, {num_classes} are needed")
    else:
        rules += CLASSIFIER_RULES
    if CLASSIFIER_RULES[0] not in rules:
        tensors = {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
    return tensors, rules, [f"started afresh, {text}" for text in fresh]


def choose_parts(tensors: dict, head_name: str, *, fresh_head: bool) -> tuple[dict, tuple, list[str]]:
    """The same of a head that needs neither: each of its linears that the checkpoint has is taken."""
    rules = HEAD_RULES[head_name]
    parts = {name.split(".")[0]: () for name in (rule.name for rule in rules)}
    for part in parts:
        of_part = tuple(rule for rule in rules if rule.name.startswith(f"{part}."))
        parts[part] = of_part if all(rule.name in tensors for rule in of_part) else ()
    fresh = [part for part, found in parts.items() if fresh_head or not found]
    unread = ("bert.pooler.", "classifier.", *(f"{part}." for part in fresh))
    kept = {name: value for name, value in tensors.items() if not name.startswith(unread)}
    taken = tuple(rule for part, found in parts.items() if part not in fresh for rule in found)
    reason = "config.fresh_head" if fresh_head else "the checkpoint has none"
    return kept, taken, [f"started afresh, {', '.join(fresh)}: {reason}"] if fresh else []


def count_classes(tensors: dict) -> int | None:
    """Classes of the classifier among the tensors, None where there is none."""
    shapes = [value.shape for name, value in tensors.items() if name.startswith("classifier.") and value.ndim]
    return shapes[0][0] if shapes else None


def tile_positions(position_XD, num_positions: int) -> jax.Array:
    """The learnt rows repeated from the first until there are `num_positions`."""
    repeats = -(-num_positions // position_XD.shape[0])
    return jnp.tile(position_XD, (repeats, 1))[:num_positions]


def note_conversions(tensors: dict) -> list[str]:
    """A note where tensors were not stored in float32."""
    stored = sorted({str(value.dtype) for value in tensors.values()} - {"float32"})
    return [f"converted to float32 from {', '.join(stored)}"] if stored else []
