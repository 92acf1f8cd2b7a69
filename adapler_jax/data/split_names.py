"""Names of splits: a role, also with a suffix, as `validation_mismatched`."""

from collections.abc import Iterable

SPLITS = ("train", "validation", "test")  # the roles, in the order in which splits are listed


def role_of(split: str) -> str:
    """Return the role of a split: its name up to the first underscore."""
    return split.partition("_")[0]


def sort_splits(splits: Iterable[str]) -> list[str]:
    """Return names of splits ordered by role, and by name within a role."""
    return sorted(splits, key=lambda split: (SPLITS.index(role_of(split)), split))


def evaluation_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """Return the test splits, or the validation splits if there is no test split."""
    names = tuple(splits)
    tests = tuple(name for name in names if name.startswith("test"))
    return tests or tuple(name for name in names if name.startswith("validation"))
