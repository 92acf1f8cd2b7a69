"""Read labelled text from one string: tfds:NAME, hf:NAME, file:PATH or package:NAME."""

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from adapler_jax.data.sources.files import load_files
from adapler_jax.data.sources.formats import DEFAULT_OPTIONS, Options
from adapler_jax.data.sources.packages import load_package
from adapler_jax.data.sources.parquet import class_label_names
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table, look_up, table_from_rows
from adapler_jax.data.sources.tfds import tfds_class_names, tfds_splits, to_python
from adapler_jax.io.messages import explain_unknown, first_line

_KINDS = ("tfds", "hf", "file", "package")
_SAVED_FILES = ("dataset_dict.json", "state.json")  # of `save_to_disk` of `datasets`


def load_source(
    source: str, *, columns: Collection[str] | None = None, options: Options = DEFAULT_OPTIONS
) -> dict[str, Table]:
    """Read every split of a source.

    Args:
      source: one of
        `tfds:glue/sst2`: a tensorflow-datasets builder, prepared as array_record without
        TensorFlow;
        `hf:NAME`, `hf:NAME:CONFIG`, `hf:NAME@REVISION` or `hf:FOLDER`: through the optional
        `datasets` package;
        `file:PATH`: a file, or a folder of train, validation and test files;
        `package:NAME`: see PACKAGES.
      columns: columns to keep; None keeps all. `Table.column` raises on a column that the source
        lacks.
      options: of the text files of `file:`.

    Returns:
      Tables by the source's own split names.

    Raises:
      ValueError: the source is unknown, missing or malformed.
    """
    kind, colon, name = source.partition(":")
    if not colon or kind not in _KINDS:
        problem = explain_unknown("source", source, [f"{known}:" for known in _KINDS])
        raise ValueError(f"{problem} (as in file:reviews.csv)")
    if not name:
        raise ValueError(f"source {source!r} names nothing; give {kind}:NAME")
    if kind == "tfds":
        return _load_tfds(name, columns)
    if kind == "hf":
        return _load_hf(name, columns)
    if kind == "package":
        return load_package(name, columns=columns)
    return _load_file(name, columns, options)


def _load_tfds(name: str, columns: Collection[str] | None) -> dict[str, Table]:
    """Read a tensorflow-datasets builder; the first call downloads and prepares it."""
    tables = {}
    for split, rows in tfds_splits(name).items():
        table = table_from_rows(map(to_python, rows), f"tfds:{name} {split}", columns=columns)
        tables[split] = table.replace(class_names=tfds_class_names(rows))
    return tables


def _load_hf(name: str, columns: Collection[str] | None) -> dict[str, Table]:
    """Read a data set of the Hugging Face hub, a saved one, or a folder that `datasets` reads."""
    try:
        import datasets  # optional: needed only for these sources
    except ImportError as error:
        raise ValueError(f"hf:{name} needs `pip install datasets`: {error}") from error
    try:
        splits = _open_hf(datasets, name)
    except Exception as error:  # of the hub, a script or a file: no common base class
        raise ValueError(f"datasets cannot give {name!r}: {first_line(error)}") from error
    if isinstance(splits, datasets.Dataset):
        splits = {"train": splits}
    return {split: _hf_table(rows, f"hf:{name} {split}", columns) for split, rows in splits.items()}


def _hf_table(rows: Any, where: str, columns: Collection[str] | None) -> Table:
    """Return a split of `datasets` as a table; dotted names are fields inside columns."""
    found = tuple(rows.column_names)
    names = found if columns is None else tuple(columns)
    plain = [name for name in found if name in names]
    dotted = [name for name in names if name not in found and name.partition(".")[0] in found]
    needed = {*plain, *(name.partition(".")[0] for name in dotted)}
    values = rows.select_columns([name for name in found if name in needed])[:]
    held = {name: values[name] for name in plain}
    for name in dotted:
        top = name.partition(".")[0]
        held[name] = [look_up({top: value}, name) for value in values[top]]
    features = {name: _feature(feature) for name, feature in rows.features.items()}
    return Table(held, where, found, class_names=class_label_names(features))


def _feature(feature: object) -> Mapping[str, Any]:
    """Return a feature of `datasets` in the form of its files."""
    return {"_type": type(feature).__name__, "names": getattr(feature, "names", None)}


def _open_hf(datasets: Any, name: str) -> Any:
    """Open a folder, or a hub name with an optional :CONFIG and @REVISION."""
    if os.path.isdir(name):
        return datasets.load_from_disk(name) if _is_saved(name) else datasets.load_dataset(name)
    name, _, revision = name.partition("@")
    name, _, config = name.partition(":")
    return datasets.load_dataset(name, config or None, revision=revision or None)


def _load_file(name: str, columns: Collection[str] | None, options: Options) -> dict[str, Table]:
    """Read a file, a folder of files, or a folder that `datasets` saved."""
    if not _is_saved(name):
        return load_files(name, columns=columns, options=options)
    root = pathlib.Path(name)
    for path in filter(pathlib.Path.is_symlink, root.rglob("*")):
        check_inside(root, path.relative_to(root), name)
    return _load_hf(name, columns)


def _is_saved(name: str) -> bool:
    """Return whether `save_to_disk` of `datasets` wrote this folder."""
    return any(os.path.isfile(os.path.join(name, file)) for file in _SAVED_FILES)
