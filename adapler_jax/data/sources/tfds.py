"""Splits of tensorflow-datasets builders, read without TensorFlow, as plain values."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from adapler_jax.data.sources.files import split_name
from adapler_jax.io.messages import first_line


def tfds_splits(name: str) -> Mapping[str, Iterable[Mapping]]:
    """Return the rows of a tensorflow-datasets builder by split; it is downloaded and prepared the first time.

    Args:
      name: of the builder, as race/high.

    Raises:
      ValueError: the package is missing or cannot give it.
    """
    try:
        import tensorflow_datasets as tfds  # heavy, and needed for these sources only
        import tensorflow_datasets.text  # registers glue, mrqa and the other text builders
    except ImportError as error:
        raise ValueError(
            f"tfds:{name} needs `pip install tensorflow-datasets array_record`: {error}"
        ) from error
    try:
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
        return builder.as_data_source()
    except (
        Exception
    ) as error:  # not found, no network, changed checksum, a missing module: no common base
        raise ValueError(f"tensorflow-datasets cannot give {name!r}: {_reason(error)}") from error


def tfds_class_names(rows) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes by column, where the builder of a split's rows knows them."""
    features = getattr(getattr(rows, "dataset_info", None), "features", None) or {}
    names = {column: getattr(feature, "names", None) for column, feature in features.items()}
    return {column: tuple(found) for column, found in names.items() if found}


def _reason(error: Exception) -> str:
    """What went wrong; lists of lists, as RACE's options, are prepared with TensorFlow's help, but read without it."""
    if "No module named 'tensorflow'" not in str(error):
        return first_line(error)
    return (
        f"{first_line(error)}; prepare it once where TensorFlow is installed and set TFDS_DATA_DIR to the folder, or "
        "unpack the data set's own archive and give it as file:FOLDER"
    )


def open_tfds(name: str, split: str) -> Iterator[tuple[str, object]]:
    """Yield the rows of a split as they are read, with the place of each.

    Args:
      name: of the builder.
      split: train, validation (also where the builder calls it dev) or test.

    Raises:
      ValueError: see `tfds_splits`, or there is no such split.
    """
    splits = tfds_splits(name)
    rows = next((rows for found, rows in splits.items() if split_name(found) == split), None)
    if rows is None:
        raise ValueError(f"tfds:{name} has no split {split!r}; there are {', '.join(splits)}")
    return (
        (f"tfds:{name} {split}: row {number}", to_python(row))
        for number, row in enumerate(rows, start=1)
    )


def to_python(value):
    """Turn bytes into strings, NumPy's numbers into plain ones, arrays into lists, also inside of each other."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
        return to_python(value) if isinstance(value, bytes | list) else value
    if isinstance(value, Mapping):
        return {key: to_python(item) for key, item in value.items()}
    return [to_python(item) for item in value] if isinstance(value, list | tuple) else value
