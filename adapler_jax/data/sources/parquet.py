"""Parquet files: columns, nested fields by dotted names, and class names that `datasets` stores."""

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from adapler_jax.data.sources.compression import FREE_BYTES, MAX_RATIO
from adapler_jax.data.sources.tables import Table, check_once

_MAX_ROWS_PER_BYTE = 100  # a row of text takes some bytes
_FREE_ROWS = 1_000_000  # every file may have this many rows


@contextlib.contextmanager
def parquet_errors(where: str) -> Iterator[None]:
    """Turn pyarrow's error on a damaged file or text into a ValueError that names the file."""
    import pyarrow

    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} holds a text that is not UTF-8; write its column again"
        ) from error
    except (pyarrow.ArrowException, OSError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{where} is not a readable Parquet file: {reason}") from error


@contextlib.contextmanager
def open_parquet(file: BinaryIO, where: str) -> Iterator[Any]:
    """Open a file as a pyarrow.parquet.ParquetFile.

    Raises:
      ValueError: the file is not Parquet, or claims far more rows or bytes than it can hold.
    """
    import pyarrow.parquet  # heavy, and needed only for this kind of file

    with parquet_errors(where), pyarrow.parquet.ParquetFile(file) as table:
        _check_claims(table.metadata, file.seek(0, 2), where)
        yield table


def _check_claims(metadata: Any, size: int, where: str) -> None:
    """Raise ValueError if metadata claim far more rows or bytes than a file of `size` holds."""
    groups = range(metadata.num_row_groups)
    claimed = sum(metadata.row_group(group).total_byte_size for group in groups)
    max_bytes = max(FREE_BYTES, MAX_RATIO * size)
    max_rows = max(_FREE_ROWS, _MAX_ROWS_PER_BYTE * size)
    if claimed > max_bytes or metadata.num_rows > max_rows:
        raise ValueError(
            f"{where} claims {metadata.num_rows} rows in {claimed} bytes and is {size} bytes "
            "long; no table of texts is so: write it again"
        )


def read_parquet(file: BinaryIO, where: str, columns: Collection[str] | None) -> Table:
    """Read the named columns of a Parquet file into a table; None reads all."""
    with open_parquet(file, where) as table:
        found = tuple(table.schema_arrow.names)
        paths = parquet_paths(found if columns is None else columns, found, where)
        values = _columns_of(table.read(columns=_top_names(paths)), paths)
        class_names = stored_class_names(table.schema_arrow.metadata)
        return Table(dict(zip(paths, values)), where, found, class_names=class_names)


def parquet_rows(
    table: Any, names: Sequence[str], num_rows: int, *, where: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the named columns, with `num_rows` of them in memory."""
    paths = parquet_paths(names, tuple(table.schema_arrow.names), where)
    for batch in table.iter_batches(num_rows, columns=_top_names(paths)):
        columns = _columns_of(batch, paths)
        yield from (dict(zip(paths, row)) for row in zip(*columns))


def parquet_paths(names: Collection[str], found: Sequence[str], where: str) -> dict[str, list[str]]:
    """Return the paths of the names that exist; a column of the full name precedes a field."""
    paths = {}
    for name in dict.fromkeys(names):
        top = name if name in found else name.partition(".")[0]
        if top in found:
            check_once([top], found, where)
            paths[name] = [top] if top == name else name.split(".")
    return paths


def _top_names(paths: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns that paths start with, each once."""
    return list(dict.fromkeys(path[0] for path in paths.values()))


def _columns_of(batch: Any, paths: Mapping[str, Sequence[str]]) -> list[list]:
    """Return the values at each path of an Arrow table or batch."""
    return [_nested(batch.column(top), fields).to_pylist() for top, *fields in paths.values()]


def _nested(column: Any, path: Sequence[str]) -> Any:
    """Return a field inside a column of structures; nulls if it does not exist."""
    import pyarrow
    import pyarrow.compute

    for name in path:
        if not pyarrow.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return pyarrow.nulls(len(column))
        column = pyarrow.compute.struct_field(column, name)
    return column


def stored_class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Return the class names by column that `datasets` stores in a Parquet file, or nothing."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return class_label_names(features)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError):  # other programs
        return {}


def class_label_names(features: Mapping) -> dict[str, tuple[str, ...]]:
    """Return the class names by column; of a list of classes, the names of its entries.

    Args:
      features: of `datasets`, as in {column: {"_type": "ClassLabel", "names": [...]}}. A list is
        {"_type": "List" or "Sequence", "feature": {...}}, or in old files [{...}].
    """
    found = {column: _names_of(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _names_of(feature: Any) -> tuple[str, ...]:
    """Return the class names of a feature of `datasets`, or of the entries of a list."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, Mapping):
        return ()
    if feature.get("_type") == "ClassLabel":
        return tuple(map(str, feature.get("names") or ()))
    return _names_of(feature["feature"]) if "feature" in feature else ()
