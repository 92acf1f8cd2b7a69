"""Cut streams of items into chunks."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def in_chunks(
    items: Iterable[Item],
    size: int,
    *,
    weigh: Callable[[Item], int] | None = None,
    max_weight: int = 0,
) -> Iterator[list[Item]]:
    """Yield consecutive items as lists that are not empty.

    Args:
      items: consumed one chunk at a time.
      size: items of a chunk; the last chunk may be shorter.
      weigh: returns the weight of an item, for example its characters; None limits by size alone.
      max_weight: a chunk ends as soon as its items weigh this much.
    """
    chunk: list[Item] = []
    weight = 0
    for item in items:
        chunk.append(item)
        weight += weigh(item) if weigh else 0
        is_heavy = weigh is not None and weight >= max_weight
        if len(chunk) == size or is_heavy:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def at_least_one(chunks: Iterator[list[Item]]) -> Iterator[list[Item]]:
    """Yield the chunks, or one empty chunk if there are no others."""
    yield next(chunks, [])
    yield from chunks
