"""One string names a source of labelled text: tfds:NAME, hf:NAME, file:PATH or package:NAME."""

import os
from collections.abc import Collection

from adapler_jax.data.files import load_files
from adapler_jax.data.packages import load_package
from adapler_jax.data.prepared import plain, tfds_splits
from adapler_jax.data.tables import Table, explain_unknown, first_line, table_from_rows


def load_source(source: str, *, columns: Collection[str] | None = None) -> dict[str, Table]:
    """Read every split of a source.

    Args:
      source: `tfds:glue/sst2` (tensorflow-datasets, prepared as array_record, TensorFlow is not needed),
        `hf:NAME`, `hf:NAME:CONFIG`, `hf:NAME@REVISION` or `hf:FOLDER` (the optional `datasets` package),
        `file:PATH` (a file or a folder of train, validation and test files), `package:NAME` (see PACKAGES).
      columns: the columns to keep; None keeps all. A name that the source lacks is passed over here:
        `Table.column` explains it to whoever asks.

    Returns:
      Tables by the source's own split names.

    Raises:
      ValueError: the source is unknown, missing or malformed.
    """
    kind, colon, name = source.partition(":")
    if not colon or kind not in _KINDS:
        raise ValueError(f"{explain_unknown('source', source, [k + ':' for k in _KINDS])} (as in file:reviews.csv)")
    if not name:
        raise ValueError(f"source {source!r} names nothing; give {kind}:NAME")
    return _KINDS[kind](name, columns=columns)


def _load_tfds(name: str, *, columns: Collection[str] | None) -> dict[str, Table]:
    """Read a tensorflow-datasets builder without TensorFlow; it is downloaded and prepared the first time."""
    return {
        split: table_from_rows(map(plain, rows), f"tfds:{name} {split}", columns=columns)
        for split, rows in tfds_splits(name).items()
    }


def _load_hf(name: str, *, columns: Collection[str] | None) -> dict[str, Table]:
    """Read a data set of the Hugging Face hub, a saved one, or a folder of files that `datasets` understands."""
    try:
        import datasets  # optional: needed for these sources only
    except ImportError as error:
        raise ValueError(f"hf:{name} needs `pip install datasets`: {error}") from error
    try:
        splits = _open_hf(datasets, name)
    except Exception as error:  # of the hub, a script, a file: no common base
        raise ValueError(f"datasets cannot give {name!r}: {first_line(error)}") from error
    if isinstance(splits, datasets.Dataset):
        splits = {"train": splits}
    tables = {}
    for split, rows in splits.items():
        wanted = [key for key in rows.column_names if columns is None or key in columns]
        tables[split] = Table(rows.select_columns(wanted)[:], f"hf:{name} {split}", tuple(rows.column_names))
    return tables


def _open_hf(datasets, name: str):
    """Open a folder, or a hub name with an optional :CONFIG and @REVISION."""
    if os.path.isdir(name):
        saved = any(os.path.exists(os.path.join(name, file)) for file in ("dataset_dict.json", "state.json"))
        return datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
    name, _, revision = name.partition("@")
    name, _, config = name.partition(":")
    return datasets.load_dataset(name, config or None, revision=revision or None)


def _load_file(name: str, *, columns: Collection[str] | None) -> dict[str, Table]:
    """Read a file or a folder of files."""
    return load_files(name, columns=columns)


_KINDS = {"tfds": _load_tfds, "hf": _load_hf, "file": _load_file, "package": load_package}
