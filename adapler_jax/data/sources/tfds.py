"""Read splits of tensorflow-datasets builders as plain Python values, without TensorFlow."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from adapler_jax.data.sources.files import split_name
from adapler_jax.io.messages import explain_unknown, first_line


def tfds_splits(name: str) -> Mapping[str, Iterable[Mapping]]:
    """Return the rows of a builder by split; the first call downloads and prepares them.

    Args:
      name: of the builder, for example race/high.

    Raises:
      ValueError: the package is missing or cannot provide the builder.
    """
    try:
        import tensorflow_datasets as tfds  # heavy, and needed only for these sources
        import tensorflow_datasets.text  # registers glue, mrqa and the other text builders
    except ImportError as error:
        raise ValueError(
            f"tfds:{name} needs `pip install tensorflow-datasets array_record`: {error}"
        ) from error
    try:
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
        return builder.as_data_source()
    except Exception as error:  # unknown name, network, checksum, module: no common base class
        raise ValueError(f"tensorflow-datasets cannot give {name!r}: {_reason(error)}") from error


def tfds_class_names(rows: object) -> dict[str, tuple[str, ...]]:
    """Return the class names by column that the builder of a split's rows provides."""
    features = getattr(getattr(rows, "dataset_info", None), "features", None) or {}
    names = {column: getattr(feature, "names", None) for column, feature in features.items()}
    return {column: tuple(found) for column, found in names.items() if found}


def _reason(error: Exception) -> str:
    """Describe an error of the builder.

    Preparing lists of lists, such as RACE's options, needs TensorFlow; reading them does not.
    """
    reason = first_line(error)
    if "No module named 'tensorflow'" not in str(error):
        return reason
    return (
        f"{reason}; prepare it once where TensorFlow is installed and set TFDS_DATA_DIR to the "
        "folder, or unpack the data set's own archive and give it as file:FOLDER"
    )


def open_tfds(name: str, split: str) -> Iterator[tuple[str, object]]:
    """Yield (location, row) of a split as the rows are read; messages name the location.

    Args:
      name: of the builder.
      split: train, validation (also if the builder calls it dev) or test.

    Raises:
      ValueError: see `tfds_splits`, or the split does not exist.
    """
    splits = tfds_splits(name)
    rows = next((rows for found, rows in splits.items() if split_name(found) == split), None)
    if rows is None:
        raise ValueError(f"tfds:{name}: {explain_unknown('split', split, splits)}")
    where = f"tfds:{name} {split}"
    return ((f"{where}: row {number}", to_python(row)) for number, row in enumerate(rows, start=1))


def to_python(value: Any) -> Any:
    """Return strings for bytes, Python numbers for NumPy's, and lists for arrays, also nested."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
        return to_python(value) if isinstance(value, bytes | list) else value
    if isinstance(value, Mapping):
        return {key: to_python(item) for key, item in value.items()}
    return [to_python(item) for item in value] if isinstance(value, list | tuple) else value
