"""Check the fields of records that were read from JSON."""

import math
from collections.abc import Callable
from typing import Any

# A field of a record is a type, where float means any finite number, or a function.
Kind = type | Callable[[Any], bool]
Fields = dict[str, Kind]


def fits(value: Any, kind: Kind) -> bool:
    """Return whether the value of a field has this kind."""
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind) if isinstance(kind, type) else kind(value)


def wrong_fields(record: Any, needed: Fields, optional: Fields | None = None) -> list[str]:
    """Return the names of the fields that are missing or have another kind.

    Args:
      record: all needed fields of what is no object are missing.
      needed: fields and their kinds.
      optional: fields that may be missing.
    """
    fields = record if isinstance(record, dict) else {}
    kinds = needed | (optional or {})
    missing = needed.keys() - fields.keys()
    return sorted(
        missing
        | {name for name, kind in kinds.items() if name in fields and not fits(fields[name], kind)}
    )
