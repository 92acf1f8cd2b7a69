"""Streams of items, some at a time."""

from collections.abc import Callable, Iterable, Iterator


def in_chunks(
    items: Iterable, size: int, *, weigh: Callable[..., int] | None = None, max_weight: int = 0
) -> Iterator[list]:
    """Yield lists of items that follow each other.

    Args:
      items: read no further than the list that is asked for.
      size: items of a list; the last has what is left.
      weigh: the weight of an item, as its characters; a list that weighs max_weight ends earlier. None: by size alone.

    Yields:
      Lists that are not empty; none where there are no items.
    """
    chunk, weight = [], 0
    for item in items:
        chunk.append(item)
        weight += weigh(item) if weigh else 0
        if len(chunk) == size or (weigh and weight >= max_weight):
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def at_least_one(chunks: Iterator[list]) -> Iterator[list]:
    """Yield the chunks, an empty one where there is none."""
    yield next(chunks, [])
    yield from chunks
