"""Find duplicates, draw seeded subsets, and split training rows; each a pure function of its seed.

scikit-learn's stratified split is not used: it draws other rows, and seeded splits of existing runs
must not change.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

_SPLIT_STREAM, _SUBSET_STREAM = 0, 1  # separate random streams of one seed


def first_occurrences(texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> np.ndarray:
    """Return the rows, in order, whose text (or pair) did not occur earlier, int64."""
    first_row: dict[object, int] = {}
    for row, text in enumerate(zip(texts, text_pairs) if text_pairs is not None else texts):
        first_row.setdefault(text, row)
    return np.fromiter(first_row.values(), np.int64, len(first_row))


def holdout_rows(
    num_rows: int, sizes: Mapping[str, int | float], *, seed: int, unit: str = "training rows"
) -> dict[str, np.ndarray]:
    """Take splits from the start of the shuffled training rows.

    Args:
      num_rows: rows to split.
      sizes: size of each new split in order: a count, or a fraction of the rows in (0, 1).
      seed: the order of the shuffle depends on the seed and on num_rows only.
      unit: noun for the rows, in messages.

    Returns:
      Row numbers by split, each sorted; the remaining rows are `train`.

    Raises:
      ValueError: a size is neither count nor fraction, or no rows would be left to train on.
    """
    order = np.random.default_rng([seed, _SPLIT_STREAM]).permutation(num_rows)
    counts = _counts(sizes, num_rows, unit=unit)
    ends = np.cumsum([0, *counts.values()])
    parts = {
        name: np.sort(order[start:end]) for name, start, end in zip(counts, ends[:-1], ends[1:])
    }
    return parts | {"train": np.sort(order[ends[-1] :])}


def stratified_holdout_rows(
    labels: np.ndarray, sizes: Mapping[str, int | float], *, seed: int
) -> dict[str, np.ndarray]:
    """Take splits with the class fractions of all rows, as exactly as whole rows allow.

    Args:
      labels: class numbers of the rows.
      sizes: sizes for `holdout_rows`; a count is converted to its fraction of the rows.
      seed: seed for `holdout_rows`.

    Returns:
      Row numbers by split, each sorted.

    Raises:
      ValueError: `holdout_rows` raises it.
    """
    counts = _counts(sizes, len(labels))
    fractions = {
        name: size if size < 1 else counts[name] / len(labels) for name, size in sizes.items()
    }
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*sizes, "train")}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for name, indices in holdout_rows(len(rows), fractions, seed=seed).items():
            parts[name].append(rows[indices])
    return {name: np.sort(np.concatenate(found)) for name, found in parts.items()}


def grouped_holdout_rows(
    texts: Sequence[str], sizes: Mapping[str, int | float], *, seed: int
) -> dict[str, np.ndarray]:
    """Take splits that keep the rows of equal texts together, as the documents of a query.

    Args:
      texts: of the rows.
      sizes: sizes for `holdout_rows`; a count is converted to its fraction of the rows.
      seed: seed for `holdout_rows`.

    Returns:
      Row numbers by split, each sorted; the remaining rows are `train`.

    Raises:
      ValueError: `holdout_rows` raises it.
    """
    number_of: dict[str, int] = {}
    groups = np.array([number_of.setdefault(text, len(number_of)) for text in texts])
    if len(number_of) == len(texts):
        return holdout_rows(len(texts), sizes, seed=seed)
    fractions = {name: count / len(texts) for name, count in _counts(sizes, len(texts)).items()}
    parts = holdout_rows(len(number_of), fractions, seed=seed, unit="first texts of training pairs")
    return {name: np.flatnonzero(np.isin(groups, numbers)) for name, numbers in parts.items()}


def subset(num_rows: int, subset_size: int, *, seed: int) -> np.ndarray:
    """Draw rows without replacement, sorted.

    A larger subset of the same seed contains a smaller one.

    Raises:
      ValueError: the size is below 1 or above the number of rows.
    """
    if not 1 <= subset_size <= num_rows:
        raise ValueError(
            f"cannot draw {subset_size} of {num_rows} training examples; "
            "correct config.data.num_train_examples"
        )
    order = np.random.default_rng([seed, _SUBSET_STREAM]).permutation(num_rows)
    return np.sort(order[:subset_size])


def _counts(
    sizes: Mapping[str, int | float], num_rows: int, *, unit: str = "training rows"
) -> dict[str, int]:
    """Turn the sizes of splits into counts that leave rows to train on."""
    counts = {name: _count(name, size, num_rows) for name, size in sizes.items()}
    if sum(counts.values()) >= num_rows:
        requested = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(
            f"{num_rows} {unit} cannot give {requested} and leave rows to train on; set "
            "smaller sizes in config.data.split_fractions, or give these splits by "
            "config.data.sources"
        )
    return counts


def _count(name: str, size: int | float, num_rows: int) -> int:
    """Turn the size of a split into a count of at least one row."""
    is_number = isinstance(size, int | float) and not isinstance(size, bool)
    if is_number and 0 < size < 1:
        return max(round(size * num_rows), 1)
    if is_number and math.isfinite(size) and size >= 1 and size == int(size):
        return int(size)
    raise ValueError(
        f"config.data.split_fractions.{name} is {size!r}; "
        "expected a count of rows or a fraction between 0 and 1"
    )
