"""Choose the parts of a head that come from a checkpoint."""

from typing import NamedTuple

from adapler_jax.heads import TOKEN_CLASSIFICATION, Head
from adapler_jax.io.messages import listed
from adapler_jax.weights.rules import (
    CLASSIFIER_RULES,
    POOLER_RULES,
    Rule,
    foreign_part,
    head_rules,
)
from adapler_jax.weights.score_heads import why_other_classifier

CLASSIFIER_NAMES = tuple(rule.name for rule in CLASSIFIER_RULES)


class HeadParts(NamedTuple):
    """The parts of a head that come from the checkpoint."""

    tensors: dict  # of the encoder and these parts
    rules: tuple[Rule, ...]  # of these parts
    fresh: dict[str, str]  # reinitialised parts, and the reasons


def choose_head(
    tensors: dict, head: Head, num_classes: int | None, *, reinit_head: bool, raw: dict
) -> HeadParts:
    """Choose the parts of a head that come from the checkpoint.

    Args:
      tensors: of the checkpoint.
      head: the needed head.
      num_classes: of the classifier; None for as many as the checkpoint has.
      reinit_head: choose no part.
      raw: content of config.json.
    """
    other = why_other_classifier(raw, tensors, head)
    if set(POOLER_RULES) <= set(head_rules(head)):
        needed = num_classes if head.has_classes else 1
        return choose_pooled(tensors, needed, reinit_head=reinit_head, other=other)
    if head is TOKEN_CLASSIFICATION:
        reason = "config.reinit_head" if reinit_head else other
        return choose_unpooled(tensors, num_classes, reason=reason)
    return choose_parts(tensors, head, reinit_head=reinit_head)


def choose_unpooled(tensors: dict, num_classes: int | None, *, reason: str) -> HeadParts:
    """Choose the classifier of tokens, without a pooler; a reason says not to use it."""
    tensors = without(tensors, "bert.pooler.")
    reason = reason or why_no_classifier(tensors, num_classes, has_pooler=True)
    if reason:
        return HeadParts(without(tensors, "classifier."), (), {"classifier": reason})
    return HeadParts(tensors, CLASSIFIER_RULES, {})


def choose_pooled(
    tensors: dict, num_classes: int | None, *, reinit_head: bool, other: str
) -> HeadParts:
    """Choose pooler and classifier.

    A classifier is used with its own pooler only: without it, its input has another meaning.
    """
    if reinit_head:
        fresh = {"pooler and classifier": "config.reinit_head"}
        return HeadParts(without(tensors, "bert.pooler.", "classifier."), (), fresh)
    has_pooler = any(name.startswith("bert.pooler.") for name in tensors)
    rules = POOLER_RULES if has_pooler else ()
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


def choose_parts(tensors: dict, head: Head, *, reinit_head: bool) -> HeadParts:
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
    kept = without(tensors, "bert.pooler.", "classifier.", *(f"{part}." for part in fresh))
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
