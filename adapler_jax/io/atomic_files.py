"""Files that appear whole or not at all, and checksums that tell later whether they are still what was written.

The checksum of FILE is in FILE.sha256 next to it, in the form of `sha256sum`: a line `digest  name`. While a file is
replaced its checksum has two lines, of the new content and of the previous one, so that a kill between the two leaves
a pair that fits. The checksums of a directory are in DIRECTORY.sha256, a line for each file.
"""

import contextlib
import errno
import fnmatch
import hashlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

SUFFIX = ".sha256"
LINE = re.compile(r"([0-9a-f]{64})  (.+)")
unfinished: set[Path] = (
    set()
)  # files that this process is writing; a command that ends at once removes them


def is_read_only(error: OSError) -> bool:
    """Return whether a write failed because this user may not write there."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_path(path: Path) -> Path:
    """Return the place of the checksums of a file or directory."""
    return path.with_name(path.name + SUFFIX)


def flush_file(path: Path) -> None:
    """Force a file's content onto the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_names(directory: Path) -> None:
    """Force a directory's names onto the disk, where the system can: a rename is lost in a power cut otherwise."""
    with contextlib.suppress(OSError):  # Windows and some network disks cannot open a directory
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def replacing_file(path: Path, *, checksum: bool = False) -> Iterator[Path]:
    """Yield a place next to `path` for a file that takes its place where the block ends without an error.

    On an error `path` stays as it was, and the unfinished file is removed.

    Args:
      path: the file; its directory exists.
      checksum: whether `check_file` can verify it later.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    unfinished.add(partial)
    try:
        yield partial
        flush_file(partial)
        if checksum:
            lines = dict.fromkeys([_line(digest_of(partial), path.name), _first_line(path)])
            _write_text(checksum_path(path), "".join(lines))
        os.replace(partial, path)
        flush_names(path.parent)
    finally:
        partial.unlink(missing_ok=True)
        unfinished.discard(partial)


def replace_text(path: Path, text: str, *, checksum: bool = False) -> None:
    """Write a text file in one step: a kill leaves the old content or the new."""
    with replacing_file(path, checksum=checksum) as partial:
        partial.write_text(text, encoding="utf-8")


def _write_text(path: Path, text: str) -> None:
    """Write a file of checksums in one step."""
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _line(digest: str, name: str) -> str:
    """Return a line of a file of checksums."""
    return f"{digest}  {name}\n"


def _first_line(path: Path) -> str:
    """Return the line of the content that is there; empty where none is known."""
    found = [digest for digest, name in _read_lines(checksum_path(path)) if name == path.name]
    return _line(found[0], path.name) if found and path.exists() else ""


def _read_lines(path: Path) -> list[tuple[str, str]]:
    """Return (digest, name) of each line, a digest that fits nothing where a line is damaged; none without a file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    matches = map(LINE.fullmatch, lines)
    return [match.groups() if match else ("", path.name) for match in matches]


def check_file(path: Path, advice: str) -> None:
    """Verify a file by its checksum; one without a checksum, as of an earlier release, passes.

    Args:
      path: the file; it exists.
      advice: what to remove and what that costs.

    Raises:
      ValueError: the content is not what was written.
    """
    if not checksum_path(path).exists():
        return
    digests = [digest for digest, name in _read_lines(checksum_path(path)) if name == path.name]
    if digest_of(path) not in digests:
        raise ValueError(
            f"{path} is damaged (its SHA-256 is not one of {checksum_path(path).name}); {advice}; where you "
            f"changed it yourself, remove {checksum_path(path).name} alone"
        )


def has_checksum(path: Path) -> bool:
    """Return whether a file or directory can be verified."""
    return checksum_path(path).exists()


def remove_file(path: Path) -> None:
    """Remove a file and its checksum, where they are."""
    path.unlink(missing_ok=True)
    checksum_path(path).unlink(missing_ok=True)


def files_of(directory: Path) -> list[Path]:
    """Return the files of a directory and of those in it, sorted."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def write_checksums(
    directory: Path, place: Path | None = None, *, skip: Collection[str] = ()
) -> None:
    """Write the checksums of the files of a directory, and force the files onto the disk first.

    Args:
      directory: whose files are all written.
      place: of the checksums; None for DIRECTORY.sha256 next to it.
      skip: patterns of names, as "*.zip", of files in the directory that may change later.
    """
    place = checksum_path(directory) if place is None else place
    lines = []
    for path in files_of(directory):
        if path != place:
            flush_file(path)
        if path != place and not _matches(path.relative_to(directory).as_posix(), skip):
            lines.append(_line(digest_of(path), path.relative_to(directory).as_posix()))
    _write_text(place, "".join(lines))


def _matches(name: str, patterns: Collection[str]) -> bool:
    """Return whether a name is one of some patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def damaged_files(directory: Path, place: Path | None = None) -> list[str]:
    """Return the names of the files that are missing or not as written; none without checksums.

    Files that were added later do not count.
    """
    place = checksum_path(directory) if place is None else place
    lines = _read_lines(place)
    if place.exists() and not lines:
        return [place.name]
    return [name for digest, name in lines if not _is_whole(directory / name, digest)]


def _is_whole(path: Path, digest: str) -> bool:
    """Return whether a file is there with this content."""
    return path.is_file() and digest_of(path) == digest


def check_directory(directory: Path, advice: str, *, skip: Collection[str] = ()) -> None:
    """Verify the files of a directory by their checksums; one without checksums passes.

    Args:
      directory: whose checksums are in DIRECTORY.sha256 next to it.
      advice: what to remove and what that costs.
      skip: as in `write_checksums`; earlier releases wrote checksums of these too.

    Raises:
      ValueError: a file is missing or its content is not what was written.
    """
    wrong = [name for name in damaged_files(directory) if not _matches(name, skip)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ValueError(
            f"{directory / wrong[0]}{more} is damaged (its SHA-256 is not that in "
            f"{checksum_path(directory).name}); {advice}; where you changed it yourself, remove "
            f"{checksum_path(directory)} alone"
        )
