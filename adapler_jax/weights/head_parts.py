"""Choose the parts of a head that come from a published checkpoint."""

import collections
from collections.abc import Collection
from typing import NamedTuple

from adapler_jax.encoders import Encoder
from adapler_jax.heads import TOKEN_CLASSIFICATION, Head
from adapler_jax.io.messages import listed
from adapler_jax.weights.rules import (
    BUFFERS,
    CLASSIFIER_RULES,
    OTHER_HEADS,
    Rule,
    foreign_part,
    head_rules,
    is_pooled,
    pooler_rules_of,
)
from adapler_jax.weights.score_heads import why_other_classifier

CLASSIFIER_NAMES = tuple(rule.name for rule in CLASSIFIER_RULES)


class HeadParts(NamedTuple):
    """The parts of a head that come from the checkpoint."""

    tensors: dict  # of the encoder and these parts
    rules: tuple[Rule, ...]  # of these parts
    fresh: dict[str, str]  # reinitialised parts, and the reasons


def drop_ignored(
    tensors: dict, encoder: Encoder, keep: Collection[str] = ()
) -> tuple[dict, list[str]]:
    """Drop tensors that neither encoder nor head use.

    Tensors that look like a part of the encoder's computation stay, and a later check reports them.

    Args:
      tensors: of the checkpoint.
      encoder: the family.
      keep: names of the tensors of encoder and head.

    Returns:
      The kept tensors, and a note on the dropped ones; buffers are dropped without a note.
    """
    foreign = [name for name in tensors if name not in keep and is_foreign(name, encoder)]
    groups = collections.Counter(f"{name.split('.')[0]}.*" for name in foreign)
    kept = {
        name: value
        for name, value in tensors.items()
        if not BUFFERS.fullmatch(name) and name not in foreign
    }
    names = listed(
        f"{group} ({count} tensors)" if count > 1 else group
        for group, count in sorted(groups.items())
    )
    return kept, [f"ignored: {names}"] if foreign else []


def is_foreign(name: str, encoder: Encoder) -> bool:
    """Return whether a tensor plays no part in encoder, pooler or classifier."""
    if OTHER_HEADS.fullmatch(name):
        return True
    rules = encoder.tensor_rules + pooler_rules_of(encoder)
    own = {rule.name.partition(".")[0] for rule in rules} | {"classifier"}
    return name.partition(".")[0] not in own and foreign_part(name) is None


def pooler_prefix(encoder: Encoder) -> str:
    """Return the first parts of the names of the pooler's tensors."""
    return pooler_rules_of(encoder)[0].name.rsplit(".", 2)[0] + "."


def choose_head(
    tensors: dict,
    head: Head,
    num_classes: int | None,
    *,
    encoder: Encoder,
    reinit_head: bool,
    raw: dict,
) -> HeadParts:
    """Choose the parts of a head that come from the checkpoint.

    Args:
      tensors: of the checkpoint.
      head: the needed head.
      num_classes: of the classifier; None for as many as the checkpoint has.
      encoder: the family.
      reinit_head: choose no part.
      raw: content of config.json.
    """
    other = why_other_classifier(raw, tensors, head)
    if is_pooled(head, encoder):
        needed = num_classes if head.has_classes else 1
        return choose_pooled(tensors, needed, encoder=encoder, reinit_head=reinit_head, other=other)
    if head is TOKEN_CLASSIFICATION:
        reason = "config.reinit_head" if reinit_head else other
        return choose_unpooled(tensors, num_classes, encoder=encoder, reason=reason)
    return choose_parts(tensors, head, encoder=encoder, reinit_head=reinit_head)


def choose_unpooled(
    tensors: dict, num_classes: int | None, *, encoder: Encoder, reason: str
) -> HeadParts:
    """Choose the classifier of tokens, without a pooler; a reason says not to use it."""
    tensors = without(tensors, pooler_prefix(encoder))
    reason = reason or why_no_classifier(tensors, num_classes, has_pooler=True)
    if reason:
        return HeadParts(without(tensors, "classifier."), (), {"classifier": reason})
    return HeadParts(tensors, CLASSIFIER_RULES, {})


def choose_pooled(
    tensors: dict, num_classes: int | None, *, encoder: Encoder, reinit_head: bool, other: str
) -> HeadParts:
    """Choose pooler and classifier.

    A classifier is used with its own pooler only: without it, its input has another meaning.
    """
    prefix = pooler_prefix(encoder)
    if reinit_head:
        fresh = {"pooler and classifier": "config.reinit_head"}
        return HeadParts(without(tensors, prefix, "classifier."), (), fresh)
    has_pooler = any(name.startswith(prefix) for name in tensors)
    rules = pooler_rules_of(encoder) if has_pooler else ()
    fresh = {} if has_pooler else {"pooler": "the checkpoint has none"}
    reason = other or why_no_classifier(tensors, num_classes, has_pooler=has_pooler)
    if reason:
        return HeadParts(without(tensors, "classifier."), rules, fresh | {"classifier": reason})
    return HeadParts(tensors, rules + CLASSIFIER_RULES, fresh)


def why_no_classifier(tensors: dict, num_classes: int | None, *, has_pooler: bool) -> str:
    """Return the reason not to use the checkpoint's classifier; empty to use it."""
    others = [
        name
        for name in without(tensors, *CLASSIFIER_NAMES)
        if name.startswith("classifier.") and foreign_part(name) is None
    ]
    own_classes = count_classes(tensors)
    if others:
        return f"the checkpoint's is not one linear layer, it has {listed(others, limit=120)}"
    if own_classes is None:
        return "the checkpoint has none"
    if not has_pooler:
        return "it needs the missing pooler"
    if num_classes not in (None, own_classes):
        return f"the checkpoint's has {own_classes} classes, {num_classes} are needed"
    return ""


def choose_parts(tensors: dict, head: Head, *, encoder: Encoder, reinit_head: bool) -> HeadParts:
    """Choose the linear layers of a head without pooler; each complete one is used."""
    by_part: dict[str, list[Rule]] = {}
    for rule in head_rules(head):
        by_part.setdefault(rule.name.split(".")[0], []).append(rule)
    taken: tuple[Rule, ...] = ()
    fresh = []
    for part, rules in by_part.items():
        is_complete = all(rule.name in tensors for rule in rules)
        if is_complete and not reinit_head:
            taken += tuple(rules)
        else:
            fresh.append(part)
    dropped = (f"{part}." for part in fresh)
    kept = without(tensors, pooler_prefix(encoder), "classifier.", *dropped)
    reason = "config.reinit_head" if reinit_head else "the checkpoint has none"
    return HeadParts(kept, taken, {", ".join(fresh): reason} if fresh else {})


def without(tensors: dict, *prefixes: str) -> dict:
    """Return the tensors whose names start with none of the prefixes."""
    return {name: value for name, value in tensors.items() if not name.startswith(prefixes)}


def count_classes(tensors: dict) -> int | None:
    """Return the number of classes of the classifier; None without one."""
    shapes = [
        tensors[name].shape for name in CLASSIFIER_NAMES if name in tensors and tensors[name].ndim
    ]
    return shapes[0][0] if shapes else None
