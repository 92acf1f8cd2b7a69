"""Duplicates, seeded subsets and splits carved from the training rows; each a pure function of its seed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

_CARVE_STREAM, _SUBSET_STREAM = 0, 1  # separate random streams of one seed


def first_occurrences(texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> np.ndarray:
    """Return the rows, in order, whose text (or pair) did not occur before, int64."""
    first: dict = {}
    for row, text in enumerate(zip(texts, text_pairs) if text_pairs is not None else texts):
        first.setdefault(text, row)
    return np.fromiter(first.values(), np.int64, len(first))


def holdout_rows(
    num_rows: int, sizes: Mapping[str, int | float], *, seed: int
) -> dict[str, np.ndarray]:
    """Cut splits off the front of the shuffled training rows.

    Args:
      num_rows: rows to share out.
      sizes: size of each new split in order: a count, or a share of the rows in (0, 1).
      seed: the order of the shuffle depends on it and on num_rows only.

    Returns:
      Row numbers by split, each sorted; what is left is `train`.

    Raises:
      ValueError: a size is no size, or nothing would be left to train on.
    """
    order = np.random.default_rng([seed, _CARVE_STREAM]).permutation(num_rows)
    counts = _counts(sizes, num_rows)
    ends = np.cumsum([0, *counts.values()])
    parts = {
        name: np.sort(order[start:end]) for name, start, end in zip(counts, ends[:-1], ends[1:])
    }
    return parts | {"train": np.sort(order[ends[-1] :])}


def stratified_holdout_rows(
    labels: np.ndarray, sizes: Mapping[str, int | float], *, seed: int
) -> dict[str, np.ndarray]:
    """Cut splits that have every class in the share that the whole has, as near as whole rows allow.

    Args:
      labels: class numbers of the rows.
      sizes: as in `holdout_rows`; a count is taken as its share of the rows.
      seed: as in `holdout_rows`.

    Returns:
      Row numbers by split, each sorted.

    Raises:
      ValueError: as in `holdout_rows`.
    """
    counts = _counts(sizes, len(labels))
    shares = {
        name: size if size < 1 else counts[name] / len(labels) for name, size in sizes.items()
    }
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*sizes, "train")}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for name, places in holdout_rows(len(rows), shares, seed=seed).items():
            parts[name].append(rows[places])
    return {name: np.sort(np.concatenate(found)) for name, found in parts.items()}


def subset(num_rows: int, num_wanted: int, *, seed: int) -> np.ndarray:
    """Draw rows without replacement, sorted; a smaller draw of the same seed lies inside a larger one.

    Raises:
      ValueError: there are not as many rows, or fewer than one is asked for.
    """
    if not 1 <= num_wanted <= num_rows:
        raise ValueError(
            f"cannot draw {num_wanted} of {num_rows} training examples; correct config.data.num_train_examples"
        )
    return np.sort(np.random.default_rng([seed, _SUBSET_STREAM]).permutation(num_rows)[:num_wanted])


def _counts(sizes: Mapping[str, int | float], num_rows: int) -> dict[str, int]:
    """Turn the sizes of carved splits into counts that leave rows to train on."""
    counts = {name: _count(name, size, num_rows) for name, size in sizes.items()}
    if sum(counts.values()) >= num_rows:
        asked = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(
            f"{num_rows} training rows cannot give {asked} and leave rows to train on; set smaller sizes in "
            "config.data.split_fractions, or give these splits by config.data.sources"
        )
    return counts


def _count(name: str, size: int | float, num_rows: int) -> int:
    """Turn a size of a carved split into a count of at least one row."""
    number = isinstance(size, int | float) and not isinstance(size, bool) and math.isfinite(size)
    count = (int(round(size * num_rows)) if 0 < size < 1 else int(size)) if number else 0
    if not number or size <= 0 or (size >= 1 and count != size):
        raise ValueError(
            f"config.data.split_fractions.{name} is {size!r}; expected a count of rows or a share between 0 and 1"
        )
    return max(count, 1)
