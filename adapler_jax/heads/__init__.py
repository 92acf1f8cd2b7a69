"""Heads: classes, labels, numbers, vectors, tags, spans, options, candidates, facts."""

from collections.abc import Callable

from adapler_jax.heads.base import Head, zero_empty_rows
from adapler_jax.heads.candidates import candidates
from adapler_jax.heads.classification import CLASSIFICATION, classify, init_classifier
from adapler_jax.heads.embedding import DENSE_ACTIVATIONS, POOLINGS, embedding
from adapler_jax.heads.multi_label import MULTI_LABEL
from adapler_jax.heads.multihop import hotpot
from adapler_jax.heads.multiple_choice import choice
from adapler_jax.heads.pooling import pooling_of, with_pooling
from adapler_jax.heads.regression import ACTIVATIONS, regression
from adapler_jax.heads.span import SPAN
from adapler_jax.heads.token_classification import TOKEN_CLASSIFICATION

__all__ = [
    "CLASSIFICATION",
    "HEADS",
    "MULTI_LABEL",
    "SPAN",
    "TEXT_OPTIONS",
    "TOKEN_CLASSIFICATION",
    "Head",
    "candidates",
    "choice",
    "classify",
    "embedding",
    "hotpot",
    "init_classifier",
    "make_head",
    "pooling_of",
    "regression",
    "with_pooling",
    "zero_empty_rows",
]

HEADS: dict[str, Callable[..., Head]] = {
    "classification": lambda pooling="cls": with_pooling(CLASSIFICATION, pooling),
    "span": lambda: SPAN,
    "choice": choice,
    "candidates": candidates,
    "hotpot": hotpot,
    "regression": regression,
    "multi_label": lambda pooling="cls": with_pooling(MULTI_LABEL, pooling),
    "embedding": embedding,
    "token_classification": lambda: TOKEN_CLASSIFICATION,
}
# Values of the keywords of HEADS that are texts.
TEXT_OPTIONS = {
    "activation": ACTIVATIONS,
    "pooling": POOLINGS,
    "dense_activation": DENSE_ACTIVATIONS,
}


def make_head(name: str, **options) -> Head:
    """Return the head that a saved model names.

    Raises:
      ValueError: there is no such head.
    """
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}; there are {', '.join(HEADS)}")
    return HEADS[name](**options)
