"""Parquet files: their columns, nested fields by dotted names, and the class names that `datasets`
stores.
"""

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import BinaryIO

from adapler_jax.data.sources.compression import FREE_BYTES, MAX_RATIO
from adapler_jax.data.sources.tables import Table, check_once

_MAX_ROWS_PER_BYTE = 100  # rows of texts take some bytes each


@contextlib.contextmanager
def parquet_errors(where: str) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file, or of texts that are not UTF-8, into a ValueError
    that names it.
    """
    import pyarrow

    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} holds a text that is not UTF-8; write its column again"
        ) from error
    except (pyarrow.ArrowException, OSError, OverflowError, MemoryError) as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"{where} is not a readable Parquet file: {said}") from error


@contextlib.contextmanager
def open_parquet(file: BinaryIO, where: str) -> Iterator:
    """Open a file; ValueError where it is none, or claims far more than it can hold."""
    import pyarrow.parquet  # heavy, and needed for this kind of file only

    with parquet_errors(where), pyarrow.parquet.ParquetFile(file) as table:
        size = file.seek(0, 2)
        meta = table.metadata
        claimed = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
        if claimed > max(FREE_BYTES, MAX_RATIO * size) or meta.num_rows > max(
            1_000_000, _MAX_ROWS_PER_BYTE * size
        ):
            raise ValueError(
                f"{where} claims {meta.num_rows} rows in {claimed} bytes and is {size} bytes "
                f"long; no table of "
                "texts is so: write it again"
            )
        yield table


def read_parquet(file: BinaryIO, where: str, columns: Collection[str] | None) -> Table:
    """Read only the wanted columns of a Parquet file into a table."""
    with open_parquet(file, where) as table:
        found = tuple(table.schema_arrow.names)
        wanted = parquet_paths(found if columns is None else columns, found, where)
        values = table.read(columns=list(dict.fromkeys(path[0] for path in wanted.values())))
        held = {
            name: _nested(values.column(path[0]), path[1:]).to_pylist()
            for name, path in wanted.items()
        }
        return Table(
            held, where, found, class_names=stored_class_names(table.schema_arrow.metadata)
        )


def parquet_rows(table, names: Sequence[str], num_rows: int, *, where: str) -> Iterator[dict]:
    """Yield the rows of the named columns, `num_rows` of which are in memory."""
    wanted = parquet_paths(names, tuple(table.schema_arrow.names), where)
    for batch in table.iter_batches(
        num_rows, columns=list(dict.fromkeys(path[0] for path in wanted.values()))
    ):
        columns = [_nested(batch.column(path[0]), path[1:]).to_pylist() for path in wanted.values()]
        yield from (dict(zip(wanted, row)) for row in zip(*columns))


def parquet_paths(names: Collection[str], found: Sequence[str], where: str) -> dict[str, list[str]]:
    """Return the paths of the names that there are; a column of that very name goes before a
    nested field.
    """
    paths = {}
    for name in dict.fromkeys(names):
        top = name if name in found else name.partition(".")[0]
        if top in found:
            check_once([top], found, where)
            paths[name] = [top] if top == name else name.split(".")
    return paths


def _nested(column, path: Sequence[str]):
    """Return a field inside of a column of structures; of nulls where there is none of this
    name.
    """
    import pyarrow
    import pyarrow.compute

    for name in path:
        if not pyarrow.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return pyarrow.nulls(len(column))
        column = pyarrow.compute.struct_field(column, name)
    return column


def stored_class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Return the names of classes by column, as `datasets` stores them with a Parquet file; none
    where it did not.
    """
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return class_label_names(features)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError):  # of another program
        return {}


def class_label_names(features: Mapping) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes by column, of features as
    {column: {"_type": "ClassLabel", "names": [...]}}.
    """
    return {
        column: tuple(map(str, feature["names"]))
        for column, feature in features.items()
        if isinstance(feature, Mapping)
        and feature.get("_type") == "ClassLabel"
        and feature.get("names")
    }
