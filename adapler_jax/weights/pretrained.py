"""A published checkpoint of BERT or its family as an encoder and a head to fine-tune."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from adapler_jax.heads import CLASSIFICATION, HEADS, Head
from adapler_jax.io.messages import bounded_errors, listed, shown
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.checkpoint_formats import bert_tensors, renamed
from adapler_jax.weights.config import CONFIG_FILE, MAX_LENGTH, read_class_names, read_config
from adapler_jax.weights.files import add_own_tables, read_tensors
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.labels import align_classes, kept_names
from adapler_jax.weights.rules import (
    BUFFERS,
    CLASSIFIER_RULES,
    ENCODER_RULES,
    HEAD_RULES,
    OTHER_HEADS,
    POOLER_RULES,
    axis_sizes,
    foreign_part,
    unwrapped_name,
)
from adapler_jax.weights.tree import canonicalize, check_tensors, to_tree

CLASSIFIER_NAMES = tuple(rule.name for rule in CLASSIFIER_RULES)
# Where an encoder's part of a tensor's name begins.
ENCODER_PART = re.compile(
    r"(.*?)(?:embeddings\.(?:word|position|token_type)_|(?:encoder|transformer)\.layer\.\d)"
)
LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")
WORDS = "bert.embeddings.word_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A checkpoint, float32."""

    config: EncoderConfig
    params: Params  # {"encoder": ..., "head": ...}
    notes: tuple[str, ...]  # what a user should know: parts started afresh, ignored or converted
    directory: Path  # local, holds the tokenizer
    # of the classifier where it is the checkpoint's, in the order of the logits; None where it was started afresh
    class_names: tuple[str, ...] | None
    # parts of the head that were started afresh, and why
    fresh: Mapping[str, str] = dataclasses.field(default_factory=dict)
    class_rows: tuple[int, ...] | None = None  # of the checkpoint's classifier, by class


@bounded_errors()
def load_pretrained(
    path_or_name,
    key,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    num_positions: int | None = None,
    reinit_head: bool = False,
    head: Head = CLASSIFICATION,
) -> Loaded:
    """Encoder and head of a BERT, RoBERTa or DistilBERT checkpoint in Hugging Face form.

    Args: path_or_name: a local directory or a name on the hub. key: for parts that the checkpoint lacks.
    num_classes: of the classifier; None for as many as the checkpoint has. class_names: of the data, in its order: the
    checkpoint's classifier serves where its classes have these names, and its rows are put into this order (see
    `labels.align_classes`); where they are numbers, the checkpoint's names are kept (`labels.kept_names`); None for the
    checkpoint's own. num_positions: grow the position table to at least this many rows. reinit_head: start the head
    afresh though the checkpoint has it. head: the one that is needed; num_classes and class_names mean something to a
    classification only.

    Raises ValueError, all mismatches in one, where the checkpoint is not a BERT or does not fit its config.json, or
    where its classifier is for something else than classes, one of which is right.
    """
    num_classes = check_request(num_classes, class_names, num_positions)
    directory = resolve_model(path_or_name)
    config, raw = read_config(directory)
    tensors, source = read_canonical(directory, config, raw)
    own = tuple(rule.name for rule in HEAD_RULES[head.name])
    tensors, notes = drop_ignored(tensors, keep=own)
    classifies = head is CLASSIFICATION and not reinit_head
    own_names = (
        read_classes(directory / CONFIG_FILE, raw, tensors, notes=notes) if classifies else None
    )
    num_classes = num_classes if head is CLASSIFICATION else 1
    if set(POOLER_RULES) <= set(HEAD_RULES[head.name]):
        tensors, head_rules, fresh = choose_pooled(tensors, num_classes, reinit_head=reinit_head)
    else:
        tensors, head_rules, fresh = choose_parts(tensors, head.name, reinit_head=reinit_head)
    if "classifier" in fresh and len(own_names or ()) not in (
        0,
        len(class_names or own_names or ()),
    ):
        fresh["classifier"] += (
            f"; the checkpoint's are {listed(own_names)}, the data's {listed(class_names)}"
        )
    kept_classes = count_classes(tensors)
    total_classes = kept_classes or num_classes or len(own_names or ()) or 2

    rules = ENCODER_RULES + head_rules
    sizes = axis_sizes(config, num_classes=total_classes)
    check_tensors(tensors, rules, sizes, source)
    own_names = own_names if own_names is not None and len(own_names) == kept_classes else None
    rows = None
    if class_names is not None and kept_classes and head is CLASSIFICATION:
        rows, note = align_classes(own_names, class_names)
        own_names = named_by_rows(own_names, class_names, rows)
        if rows is None:
            fresh["classifier"] = note
            rules = tuple(rule for rule in rules if rule not in CLASSIFIER_RULES)
        else:
            tensors = tensors | {name: tensors[name][list(rows)] for name in CLASSIFIER_NAMES}
            notes += [note] if note else []
    params = to_tree(tensors, rules, sizes, source=source)
    params["head"] = head.init(key, config, total_classes) | params.get("head", {})
    if num_positions is not None and num_positions > config.num_positions:
        notes.append(
            f"the {config.num_positions} learnt positions were repeated to give {num_positions}"
        )
        config = grow_positions(params["encoder"]["embeddings"], config, num_positions)
    notes += [
        f"started afresh, {part}: {reason}" for part, reason in fresh.items()
    ] + note_conversions(tensors)
    return Loaded(config, params, tuple(notes), directory, own_names, fresh, rows)


def named_by_rows(
    own: Sequence[str] | None, wanted: Sequence[str], rows: Sequence[int] | None
) -> tuple[str, ...] | None:
    """Return the names of the data's classes, as `kept_names`; None where no row serves.

    Args:
      own: names of the checkpoint's classes in the order of its logits; None where it has none.
      wanted: names of the data.
      rows: the row of each class of the data.
    """
    if rows is None:
        return None
    return kept_names(None if own is None else [own[row] for row in rows], wanted)


def check_request(
    num_classes: int | None, class_names: Sequence[str] | None, num_positions: int | None
) -> int | None:
    """The number of classes. Raises ValueError where arguments of `load_pretrained` contradict each other."""
    if num_positions is not None and num_positions > MAX_LENGTH:
        raise ValueError(
            f"{num_positions} positions are asked for; expected at most {MAX_LENGTH}: lower max_length"
        )
    if class_names is None:
        return num_classes
    if len(class_names) != len(set(class_names)) or num_classes not in (None, len(class_names)):
        raise ValueError(
            f"class_names {listed(class_names)} for {num_classes} classes; expected one name for each"
        )
    return len(class_names)


def read_classes(
    path: Path, raw: dict, tensors: dict, *, notes: list[str]
) -> tuple[str, ...] | None:
    """The names of the checkpoint's classes, None where it names none; notes: receives what contradicts itself.

    Raises ValueError where its classifier is for something else than classes.
    """
    check_kind(raw, tensors, path)
    return read_class_names(raw, path, notes=notes, takes_numbers=True)


def check_kind(raw: dict, tensors: dict, source: Path) -> None:
    """Raises ValueError where a checkpoint's classifier gives no logits of classes that exclude each other."""
    num_outputs = count_classes(tensors)
    kind = raw.get("problem_type")
    if num_outputs is None or (kind in (None, "single_label_classification") and num_outputs > 1):
        return
    what = (
        f"problem_type is {shown(kind)}"
        if kind is not None
        else "one output: a regression or a multiple choice"
    )
    raise ValueError(
        f"{source}: the checkpoint's classifier has {num_outputs} outputs, {what}; there are the heads "
        f"{', '.join(HEADS)}, and a classification has two classes or more, one of which is right. To train one from "
        "this encoder, start the head afresh: config.reinit_head=True"
    )


def read_canonical(directory: Path, config: EncoderConfig, raw: dict) -> tuple[dict, Path]:
    """The tensors of a directory under the names of the rule table, and the file that they are from.

    Raises ValueError where the encoder lacks tensors that are there under a prefix, which the message names.
    """
    stored, source = read_tensors(directory)
    stored = add_own_tables(renamed(stored, unwrapped_name, source), raw, source)
    tensors = canonicalize(bert_tensors(stored, raw, source), source)
    layers = {match[1] for match in map(LAYER.match, tensors) if match}
    if WORDS not in tensors or len(layers) < config.num_layers:
        check_prefix(tensors, stored, source)
    return tensors, source


def check_prefix(tensors: dict, stored: Iterable[str], source) -> None:
    """Raises ValueError where names have a prefix without which they would be the encoder's.

    stored: the names as the file has them, but for wrappers.
    """
    found = collections.Counter(match[1] for match in map(ENCODER_PART.match, tensors) if match)
    del found["bert."]
    if found:
        prefix, count = found.most_common(1)[0]
        if not any(name.startswith(prefix) for name in stored):  # the table's own was put before it
            prefix = prefix.removeprefix("bert.")
        raise ValueError(
            f"{source}: the encoder lacks tensors, and {count} names have the prefix {shown(prefix)}, without which "
            "they would match; rename them without it"
        )


def drop_ignored(tensors: dict, keep: tuple[str, ...] = ()) -> tuple[dict, list[str]]:
    """The tensors of encoder, classifier and those to keep, and a note on the others that were left out; no
    note on buffers. What looks like a part of the encoder's own computation stays, to be refused."""
    foreign = [name for name in tensors if name not in keep and is_foreign(name)]
    groups = collections.Counter(f"{name.split('.')[0]}.*" for name in foreign)
    kept = {
        name: value
        for name, value in tensors.items()
        if name not in BUFFERS and name not in foreign
    }
    names = listed(
        f"{group} ({count} tensors)" if count > 1 else group
        for group, count in sorted(groups.items())
    )
    return kept, [f"ignored: {names}"] if foreign else []


def is_foreign(name: str) -> bool:
    """Whether a tensor is of neither encoder, pooler nor classifier, nor looks as if it changed what they compute."""
    if OTHER_HEADS.fullmatch(name):
        return True
    return not name.startswith(("bert.", "classifier.")) and foreign_part(name) is None


def choose_pooled(
    tensors: dict, num_classes: int | None, *, reinit_head: bool
) -> tuple[dict, tuple, dict[str, str]]:
    """Which of pooler and classifier come from the checkpoint: the tensors, rules to read them by, and why the other
    parts start afresh.

    A classifier is taken together with its pooler only: without it, it was trained to read something else.
    """
    if reinit_head:
        kept = {
            name: value
            for name, value in tensors.items()
            if not name.startswith(("bert.pooler.", "classifier."))
        }
        return kept, (), {"pooler and classifier": "config.reinit_head"}
    rules, fresh = (), {}
    if any(name.startswith("bert.pooler.") for name in tensors):
        rules += POOLER_RULES
    else:
        fresh["pooler"] = "the checkpoint has none"
    if reason := why_no_classifier(tensors, num_classes, has_pooler=not fresh):
        fresh["classifier"] = reason
        tensors = {
            name: value for name, value in tensors.items() if not name.startswith("classifier.")
        }
    else:
        rules += CLASSIFIER_RULES
    return tensors, rules, fresh


def why_no_classifier(tensors: dict, num_classes: int | None, *, has_pooler: bool) -> str:
    """Why the checkpoint's classifier does not serve; empty where it does."""
    others = [
        name for name in tensors if name.startswith("classifier.") and name not in CLASSIFIER_NAMES
    ]
    others = [name for name in others if foreign_part(name) is None]
    own_classes = count_classes(tensors)
    if others:
        return f"the checkpoint's is not one linear layer, it has {listed(others, limit=120)}"
    if own_classes is None:
        return "the checkpoint has none"
    if not has_pooler:
        return "it needs the missing pooler"
    if num_classes is not None and num_classes != own_classes:
        return f"the checkpoint's has {own_classes} classes, {num_classes} are needed"
    return ""


def choose_parts(
    tensors: dict, head_name: str, *, reinit_head: bool
) -> tuple[dict, tuple, dict[str, str]]:
    """The same of a head that needs neither: each of its linears that the checkpoint has is taken."""
    rules = HEAD_RULES[head_name]
    parts = {name.split(".")[0]: () for name in (rule.name for rule in rules)}
    for part in parts:
        of_part = tuple(rule for rule in rules if rule.name.startswith(f"{part}."))
        parts[part] = of_part if all(rule.name in tensors for rule in of_part) else ()
    fresh = [part for part, found in parts.items() if reinit_head or not found]
    unread = ("bert.pooler.", "classifier.", *(f"{part}." for part in fresh))
    kept = {name: value for name, value in tensors.items() if not name.startswith(unread)}
    taken = tuple(rule for part, found in parts.items() if part not in fresh for rule in found)
    reason = "config.reinit_head" if reinit_head else "the checkpoint has none"
    return kept, taken, {", ".join(fresh): reason} if fresh else {}


def count_classes(tensors: dict) -> int | None:
    """Classes of the classifier among the tensors, None where there is none."""
    shapes = [
        tensors[name].shape for name in CLASSIFIER_NAMES if name in tensors and tensors[name].ndim
    ]
    return shapes[0][0] if shapes else None


def grow_positions(embeddings: Params, config: EncoderConfig, num_positions: int) -> EncoderConfig:
    """The config with so many positions, whose table is put into the embeddings."""
    embeddings["position"] = tile_positions(embeddings["position"], num_positions)
    return dataclasses.replace(config, num_positions=num_positions)


def tile_positions(position_XD, num_positions: int) -> jax.Array:
    """The learnt rows repeated from the first until there are `num_positions`."""
    repeats = -(-num_positions // position_XD.shape[0])
    return jnp.tile(position_XD, (repeats, 1))[:num_positions]


def note_conversions(tensors: dict) -> list[str]:
    """A note where tensors were not stored in float32."""
    stored = sorted({str(value.dtype) for value in tensors.values()} - {"float32"})
    return [f"converted to float32 from {', '.join(stored)}"] if stored else []
