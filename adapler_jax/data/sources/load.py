"""One string names a source of labelled text: tfds:NAME, hf:NAME, file:PATH or package:NAME."""

import os
import pathlib
from collections.abc import Collection, Mapping

from adapler_jax.data.sources.files import load_files
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.packages import load_package
from adapler_jax.data.sources.parquet import class_label_names
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table, look_up, table_from_rows
from adapler_jax.data.sources.tfds import tfds_class_names, tfds_splits, to_python
from adapler_jax.io.messages import explain_unknown, first_line


def load_source(
    source: str, *, columns: Collection[str] | None = None, options: Options = Options()
) -> dict[str, Table]:
    """Read every split of a source.

    Args:
      source: `tfds:glue/sst2` (tensorflow-datasets, prepared as array_record, TensorFlow is not needed),
        `hf:NAME`, `hf:NAME:CONFIG`, `hf:NAME@REVISION` or `hf:FOLDER` (the optional `datasets` package),
        `file:PATH` (a file or a folder of train, validation and test files), `package:NAME` (see PACKAGES).
      columns: the columns to keep; None keeps all. A name that the source lacks is passed over here:
        `Table.column` explains it to whoever asks.
      options: how the text files of file: are written.

    Returns:
      Tables by the source's own split names.

    Raises:
      ValueError: the source is unknown, missing or malformed.
    """
    kind, colon, name = source.partition(":")
    if not colon or kind not in _KINDS:
        raise ValueError(
            f"{explain_unknown('source', source, [k + ':' for k in _KINDS])} (as in file:reviews.csv)"
        )
    if not name:
        raise ValueError(f"source {source!r} names nothing; give {kind}:NAME")
    if kind == "file":
        return _load_file(name, columns=columns, options=options)
    return _KINDS[kind](name, columns=columns)


def _load_tfds(name: str, *, columns: Collection[str] | None) -> dict[str, Table]:
    """Read a tensorflow-datasets builder without TensorFlow; it is downloaded and prepared the first time."""
    tables = {}
    for split, rows in tfds_splits(name).items():
        table = table_from_rows(map(to_python, rows), f"tfds:{name} {split}", columns=columns)
        tables[split] = table.replace(class_names=tfds_class_names(rows))
    return tables


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
        found, where = tuple(rows.column_names), f"hf:{name} {split}"
        held, fields = (
            {},
            [] if columns is None else [field for field in columns if field not in found],
        )
        dotted = [field for field in fields if field.partition(".")[0] in found]
        top = {field.partition(".")[0] for field in dotted}
        values = rows.select_columns(
            [key for key in found if columns is None or key in columns or key in top]
        )[:]
        held |= {key: column for key, column in values.items() if columns is None or key in columns}
        for field in dotted:
            first, _, rest = field.partition(".")
            held[field] = [look_up({first: value}, field) for value in values[first]]
        names = class_label_names(
            {key: _feature(feature) for key, feature in rows.features.items()}
        )
        tables[split] = Table(held, where, found, class_names=names)
    return tables


def _feature(feature) -> Mapping:
    """Return a feature of `datasets` as its files describe it."""
    return {"_type": type(feature).__name__, "names": getattr(feature, "names", None)}


def _open_hf(datasets, name: str):
    """Open a folder, or a hub name with an optional :CONFIG and @REVISION."""
    if os.path.isdir(name):
        return datasets.load_from_disk(name) if _is_saved(name) else datasets.load_dataset(name)
    name, _, revision = name.partition("@")
    name, _, config = name.partition(":")
    return datasets.load_dataset(name, config or None, revision=revision or None)


def _load_file(
    name: str, *, columns: Collection[str] | None, options: Options = Options()
) -> dict[str, Table]:
    """Read a file, a folder of files, or a folder that `datasets` saved."""
    if _is_saved(name):
        place = pathlib.Path(name)
        for path in filter(pathlib.Path.is_symlink, place.rglob("*")):
            check_inside(place, path.relative_to(place), name)
        return _load_hf(name, columns=columns)
    return load_files(name, columns=columns, options=options)


def _is_saved(name: str) -> bool:
    """Say whether this is a folder that `save_to_disk` of `datasets` wrote."""
    return any(
        os.path.isfile(os.path.join(name, file)) for file in ("dataset_dict.json", "state.json")
    )


_KINDS = {"tfds": _load_tfds, "hf": _load_hf, "file": _load_file, "package": load_package}
