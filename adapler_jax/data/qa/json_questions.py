"""Read questions that are the items of JSON files, as HotpotQA and WikiHop publish them."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard, TypeVar

from adapler_jax.data.sources.items import has_split, open_items, split_file
from adapler_jax.data.split_names import SPLITS

_SUFFIXES = (".json", ".jsonl")
Parsed = TypeVar("Parsed")


def stream_json_questions(
    source: str, split: str, parse: Callable[[Mapping, str], Parsed]
) -> Iterator[Parsed]:
    """Yield the questions of a split in the order of its file.

    Args:
      source: `file:PATH`, a published file or a folder with one file a split.
      split: train, validation or test.
      parse: converts an item; its second argument is the item's location for messages.

    Raises:
      ValueError: there is no such file, an item is no object, or `parse` raises it.
    """
    path = split_file(source.removeprefix("file:"), split, _SUFFIXES)
    return (parse(check_object(item, location), location) for location, item in open_items(path))


def check_object(item: object, location: str) -> Mapping:
    """Return an item; raise ValueError unless it has named fields."""
    if not isinstance(item, Mapping):
        raise ValueError(
            f"{location} is {type(item).__name__}; expected an object with named fields"
        )
    return item


def are_texts(value: object) -> TypeGuard[list[str]]:
    """Return True for a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def json_question_splits(source: str) -> tuple[str, ...]:
    """Return the splits that a source has files for."""
    path = source.removeprefix("file:")
    return tuple(split for split in SPLITS if has_split(path, split, _SUFFIXES))
