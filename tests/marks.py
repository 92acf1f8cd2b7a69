"""Cases of `pytest.mark.parametrize` that only `make test-long` runs."""

import itertools
from collections.abc import Iterable

import pytest


def mostly_long(*values: Iterable, quick: Iterable) -> list:
    """Return one case a value, or a combination of values; all but the quick ones are long tests.

    Args:
      *values: the values of each argument.
      quick: the cases that `make test` runs too, as `values` has them.
    """
    cases = list(itertools.product(*values)) if len(values) > 1 else list(*values)
    missing = [case for case in quick if case not in cases]
    if missing:
        raise ValueError(f"quick cases {missing} are not among {cases}")
    return [case if case in quick else long_case(case) for case in cases]


def long_case(case) -> object:
    """Return a case of one value or several that is a long test."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.long)
