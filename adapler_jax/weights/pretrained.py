"""Load a published checkpoint of BERT or its family as an encoder and a head to fine-tune."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.heads import (
    CLASSIFICATION,
    HEADS,
    MULTI_LABEL,
    TOKEN_CLASSIFICATION,
    Head,
    pooling_of,
)
from adapler_jax.io.messages import bounded_errors, listed, shown
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.config import (
    CONFIG_FILE,
    MAX_LENGTH,
    pooling_of_config,
    read_class_names,
    read_config,
)
from adapler_jax.weights.files import read_canonical
from adapler_jax.weights.head_parts import (
    CLASSIFIER_NAMES,
    HeadParts,
    choose_head,
    count_classes,
    drop_ignored,
)
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.labels import align_classes, named_by_rows
from adapler_jax.weights.rules import (
    CLASSIFIER_RULES,
    axis_sizes,
    head_rules,
    is_pooled,
    own_outputs_of,
)
from adapler_jax.weights.score_heads import MULTI_LABEL_TYPE, REGRESSION_TYPE
from adapler_jax.weights.sentence_modules import dense_tensors
from adapler_jax.weights.shapes import model_sizes
from adapler_jax.weights.tree import check_layer_counts, check_tensors, to_tree

# problem_type of transformers by the head; it has none for tags of tokens.
KINDS = {
    CLASSIFICATION.name: "single_label_classification",
    MULTI_LABEL.name: MULTI_LABEL_TYPE,
    "regression": REGRESSION_TYPE,
    TOKEN_CLASSIFICATION.name: None,
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A checkpoint in float32."""

    config: EncoderConfig
    params: Params  # {"encoder": ..., "head": ...}
    notes: tuple[str, ...]  # for the user: parts that are reinitialised, ignored or converted
    directory: Path  # local, with the tokenizer
    # Of the checkpoint's classifier in the order of its logits; None if it is reinitialised.
    class_names: tuple[str, ...] | None
    # Reinitialised parts of the head, and the reasons.
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
) -> Pretrained:
    """Load encoder and head of a checkpoint in Hugging Face form.

    Args:
      path_or_name: a local directory or a name on the hub.
      key: random key for parts that the checkpoint lacks.
      num_classes: of the classifier; None for as many as the checkpoint has.
      class_names: of the data, in its order. The checkpoint's classifier is kept if its classes
        have these names, and its rows follow this order (see `labels.align_classes`). If they are
        numbers, the checkpoint's names are kept (`labels.kept_names`). None for the checkpoint's.
      num_positions: extend the position table to at least this many rows.
      reinit_head: reinitialise the head even if the checkpoint has it.
      head: the needed head; num_classes and class_names apply to heads with classes only.

    Raises:
      ValueError: the checkpoint is not a BERT or does not fit its config.json (all mismatches at
        once), or its classifier has another use.
    """
    num_classes = check_request(num_classes, class_names, num_positions)
    own_outputs = own_outputs_of(head)
    num_classes = (num_classes or own_outputs or None) if head.has_classes else num_classes
    directory, config, raw = open_checkpoint(path_or_name, head)
    tensors, source = read_canonical(directory, config, raw)
    encoder = encoder_of(config)
    kept = names_to_keep(tensors, config, head, source)
    tensors, notes = drop_ignored(tensors | dense_tensors(directory, head), encoder, keep=kept)
    own_names = rows = None
    if head.has_classes and not reinit_head:
        own_names = read_classes(directory / CONFIG_FILE, raw, tensors, head=head, notes=notes)
    parts = choose_head(
        tensors, head, num_classes, encoder=encoder, reinit_head=reinit_head, raw=raw
    )
    explain_classes(parts.fresh, own_names, class_names)
    kept_classes = count_classes(parts.tensors)
    needed_classes = num_classes if head.has_classes else own_outputs or 1
    total_classes = kept_classes or needed_classes or len(own_names or ()) or 2
    rules = encoder.tensor_rules + parts.rules
    sizes = model_sizes(config, rules, {}, num_classes=total_classes)
    check_tensors(parts.tensors, rules, sizes, source)
    own_names = check_named(own_names, kept_classes, directory / CONFIG_FILE)
    if class_names is not None and kept_classes and head.has_classes:
        parts, rows = order_classes(parts, own_names, class_names, notes=notes)
        own_names = named_by_rows(own_names, class_names, rows)
    params = to_tree(parts.tensors, encoder.tensor_rules + parts.rules, sizes, source=source)
    params["head"] = head.init(key, config, total_classes) | params.get("head", {})
    config = extend_positions(params["encoder"]["embeddings"], config, num_positions, notes=notes)
    notes += [f"started afresh, {part}: {reason}" for part, reason in parts.fresh.items()]
    notes += note_conversions(parts.tensors)
    return Pretrained(config, params, tuple(notes), directory, own_names, parts.fresh, rows)


def open_checkpoint(path_or_name, head: Head) -> tuple[Path, EncoderConfig, dict]:
    """Return the folder of a checkpoint, its config, and the contents of its config.json.

    Raises:
      ValueError: config.json does not fit the encoder, or its classifier reads another state than
        the head does.
    """
    directory = resolve_model(path_or_name)
    config, raw = read_config(directory)
    pooling = pooling_of_config(raw, directory / CONFIG_FILE)
    if is_pooled(head) and pooling != pooling_of(head):
        raise ValueError(
            f"{directory / CONFIG_FILE} has classifier_pooling {shown(pooling)}, and the head "
            f"{head.name} reads {pooling_of(head)}; take the head of "
            "score_heads.head_of_checkpoint"
        )
    return directory, config, raw


def explain_classes(
    fresh: dict[str, str], own_names: Sequence[str] | None, class_names: Sequence[str] | None
) -> None:
    """Add both lists of names to the reason why a classifier with other classes is not used."""
    if "classifier" not in fresh or own_names is None or class_names is None:
        return
    if len(own_names) not in (0, len(class_names)):
        fresh["classifier"] += (
            f"; the checkpoint's are {listed(own_names)}, the data's {listed(class_names)}"
        )


def order_classes(
    parts: HeadParts,
    own_names: Sequence[str] | None,
    class_names: Sequence[str],
    *,
    notes: list[str],
) -> tuple[HeadParts, tuple[int, ...] | None]:
    """Put the rows of the checkpoint's classifier into the order of the data's classes.

    Args:
      parts: with a classifier.
      own_names: of the checkpoint's classes, in the order of its logits; None if it names none.
      class_names: of the data.
      notes: receives a sentence on the order.

    Returns:
      The parts with ordered rows, and the row of each class. If the names do not fit: the parts
      without a classifier, and None.
    """
    rows, note = align_classes(own_names, class_names)
    if rows is None:
        rules = tuple(rule for rule in parts.rules if rule not in CLASSIFIER_RULES)
        return HeadParts(parts.tensors, rules, parts.fresh | {"classifier": note}), None
    if note:
        notes.append(note)
    ordered = {name: parts.tensors[name][list(rows)] for name in CLASSIFIER_NAMES}
    return parts._replace(tensors=parts.tensors | ordered), rows


def check_request(
    num_classes: int | None, class_names: Sequence[str] | None, num_positions: int | None
) -> int | None:
    """Return the number of classes.

    Raises:
      ValueError: arguments of `load_pretrained` contradict each other.
    """
    if num_positions is not None and num_positions > MAX_LENGTH:
        raise ValueError(
            f"{num_positions} positions are requested; expected at most {MAX_LENGTH}: "
            "lower max_length"
        )
    if class_names is None:
        return num_classes
    if len(class_names) != len(set(class_names)) or num_classes not in (None, len(class_names)):
        raise ValueError(
            f"class_names {listed(class_names)} for {num_classes} classes; "
            "expected one name for each"
        )
    return len(class_names)


def read_classes(
    path: Path, raw: dict, tensors: dict, *, head: Head, notes: list[str]
) -> tuple[str, ...] | None:
    """Return the names of the checkpoint's classes; None if it names none.

    Args:
      path: of config.json.
      raw: its content.
      tensors: of the checkpoint.
      head: the needed head.
      notes: receives contradictions between fields.

    Raises:
      ValueError: the classifier has another use.
    """
    check_kind(raw, tensors, path, head=head)
    return read_class_names(raw, path, notes=notes, takes_numbers=True)


def check_named(
    own_names: tuple[str, ...] | None, num_kept: int | None, source: Path
) -> tuple[str, ...] | None:
    """Return the names of the outputs that are kept; None without names, or where none is kept.

    Raises:
      ValueError: there are more or fewer names than outputs.
    """
    if own_names is None or num_kept is None:
        return None
    if len(own_names) != num_kept:
        raise ValueError(
            f"{source}: id2label names {len(own_names)} classes, {listed(own_names)}, and the "
            f"classifier has {num_kept} outputs; name each of them"
        )
    return own_names


def check_kind(raw: dict, tensors: dict, source: Path, *, head: Head) -> None:
    """Raise ValueError if a checkpoint's classifier has another use than a head with classes."""
    num_outputs = count_classes(tensors)
    kind = raw.get("problem_type")
    if num_outputs is None or (kind in (None, KINDS[head.name]) and num_outputs > 1):
        return
    found = "one output: a regression or a multiple choice"
    if kind is not None:
        found = f"problem_type is {shown(kind)}"
    raise ValueError(
        f"{source}: the checkpoint's classifier has {num_outputs} outputs, {found}; there are the "
        f"heads {', '.join(HEADS)}, and a classification has two classes or more, one of which is "
        "right. Numbers as labels are for the task custom_scores, several labels a text are for "
        "the task custom_multi_label. To train another head on this encoder, start it afresh: "
        "config.reinit_head=True"
    )


def names_to_keep(tensors: dict, config: EncoderConfig, head: Head, source) -> frozenset[str]:
    """Return the names of all tensors that the rules of encoder and head name.

    Raises:
      ValueError: config.json has more layers than the tensors.
    """
    encoder, sizes = encoder_of(config), axis_sizes(config, num_classes=0)
    rules = encoder.tensor_rules + head_rules(head, encoder)
    check_layer_counts(tensors, rules, sizes, source=source)
    return frozenset(name for rule in rules for name in rule.tensor_names(sizes))


def extend_positions(
    embeddings: Params, config: EncoderConfig, num_positions: int | None, *, notes: list[str]
) -> EncoderConfig:
    """Extend the position table in the embeddings, if it has fewer rows; return the config."""
    if num_positions is None or num_positions <= config.num_positions:
        return config
    if "position" not in embeddings:  # a family without learnt positions has room for any text
        return dataclasses.replace(config, num_positions=num_positions)
    notes.append(
        f"the {config.num_positions} learnt positions were repeated to give {num_positions}"
    )
    embeddings["position"] = tile_positions(embeddings["position"], num_positions)
    return dataclasses.replace(config, num_positions=num_positions)


def tile_positions(position_XD, num_positions: int) -> jax.Array:
    """Repeat the learnt rows from the first until there are `num_positions`."""
    repeats = -(-num_positions // position_XD.shape[0])
    return jnp.tile(position_XD, (repeats, 1))[:num_positions]


def note_conversions(tensors: dict) -> list[str]:
    """Return a note if tensors were not stored in float32."""
    stored = sorted({str(value.dtype) for value in tensors.values()} - {"float32"})
    return [f"converted to float32 from {', '.join(stored)}"] if stored else []
