"""Write files in one step, and verify them later by checksums.

The checksum of FILE is in FILE.sha256 next to it, in the form of `sha256sum`: `digest  name`. While
a file is replaced, its checksum has two lines, of the new content and of the previous one. A kill
between the two renames therefore leaves a valid pair. The checksums of a directory are in
DIRECTORY.sha256, a line for each file.
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
# Files that this process is writing; a command that ends at once removes them.
unfinished: set[Path] = set()


def is_read_only(error: OSError) -> bool:
    """Return whether a write failed because this user may not write there."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_path(path: Path) -> Path:
    """Return the path of the checksums of a file or directory."""
    return path.with_name(path.name + SUFFIX)


def flush_file(path: Path) -> None:
    """Force a file's content onto the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_names(directory: Path) -> None:
    """Force a directory's names onto the disk: else a power cut can lose a rename."""
    with contextlib.suppress(OSError):  # Windows and some network disks cannot open a directory
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def replacing_file(path: Path, *, checksum: bool = False) -> Iterator[Path]:
    """Yield a path next to `path` for a file that replaces it if the block raises no error.

    After an error `path` is unchanged, and the unfinished file is removed.

    Args:
      path: the file; its directory exists.
      checksum: whether to write a checksum, which `check_file` verifies.
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
    """Return the checksum line of the present content; empty without a file."""
    found = [digest for digest, name in _read_lines(checksum_path(path)) if name == path.name]
    return _line(found[0], path.name) if found and path.exists() else ""


def _read_lines(path: Path) -> list[tuple[str, str]]:
    """Return (digest, name) of each line; the digest of a damaged line is empty.

    Without a file there are no lines.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    matches = [LINE.fullmatch(line) for line in lines]
    return [(match[1], match[2]) if match else ("", path.name) for match in matches]


def check_file(path: Path, advice: str) -> None:
    """Verify a file by its checksum; a file without one, as of release 0.1, passes.

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
            f"{path} is damaged (its SHA-256 is not one of {checksum_path(path).name}); {advice}; "
            f"if you changed it yourself, remove {checksum_path(path).name} alone"
        )


def has_checksum(path: Path) -> bool:
    """Return whether a file or directory can be verified."""
    return checksum_path(path).exists()


def remove_file(path: Path) -> None:
    """Remove a file and its checksum, if they exist."""
    path.unlink(missing_ok=True)
    checksum_path(path).unlink(missing_ok=True)


def files_of(directory: Path) -> list[Path]:
    """Return the files of a directory and its subdirectories, sorted."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def write_checksums(
    directory: Path, target: Path | None = None, *, skip: Collection[str] = ()
) -> None:
    """Write the checksums of the files of a directory, and force the files onto the disk first.

    Args:
      directory: whose files are all written.
      target: file of the checksums; None for DIRECTORY.sha256 next to the directory.
      skip: patterns of names, as "*.zip", of files in the directory that may change later.
    """
    target = checksum_path(directory) if target is None else target
    lines = []
    for path in files_of(directory):
        if path == target:
            continue
        flush_file(path)
        name = path.relative_to(directory).as_posix()
        if not _matches(name, skip):
            lines.append(_line(digest_of(path), name))
    _write_text(target, "".join(lines))


def _matches(name: str, patterns: Collection[str]) -> bool:
    """Return whether a name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def damaged_files(directory: Path, source: Path | None = None) -> list[str]:
    """Return the names of the files that are missing or changed; none without checksums.

    Files that were added later do not count.

    Args:
      directory: whose files are verified.
      source: file of the checksums; None for DIRECTORY.sha256 next to the directory.
    """
    source = checksum_path(directory) if source is None else source
    lines = _read_lines(source)
    if source.exists() and not lines:
        return [source.name]
    return [name for digest, name in lines if not _is_whole(directory / name, digest)]


def _is_whole(path: Path, digest: str) -> bool:
    """Return whether a file exists and has this digest."""
    return path.is_file() and digest_of(path) == digest


def check_directory(directory: Path, advice: str, *, skip: Collection[str] = ()) -> None:
    """Verify the files of a directory by their checksums; without checksums it passes.

    Args:
      directory: whose checksums are in DIRECTORY.sha256 next to it.
      advice: what to remove and what that costs.
      skip: patterns as in `write_checksums`; release 0.1 wrote checksums of these too.

    Raises:
      ValueError: a file is missing or its content is not what was written.
    """
    wrong = [name for name in damaged_files(directory) if not _matches(name, skip)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ValueError(
            f"{directory / wrong[0]}{more} is damaged (its SHA-256 is not that in "
            f"{checksum_path(directory).name}); {advice}; if you changed it yourself, remove "
            f"{checksum_path(directory)} alone"
        )
