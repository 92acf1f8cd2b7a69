"""Bytes of a file or a pipe, unpacked: gzip, bzip2, xz, Zstandard, and zip archives of one file."""

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

ENDINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard", ".zip": "zip"}
MAX_LINE_BYTES = 1 << 27  # of a line or a field; longer ones are no text
MAX_XZ_MEMORY = 1 << 28  # bytes that a dictionary of xz may claim
FREE_BYTES = 1 << 26  # what any packed file may unpack to
MAX_RATIO = 250  # unpacked to packed bytes; prose has 2 to 10
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
}
_HEAD_BYTES = 6
_ZIP_ERRORS = (
    *(
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
    ),
    *(
        struct.error,
        IndexError,
        KeyError,
        OverflowError,
        UnicodeDecodeError,
    ),  # of damaged directories
)
_CHUNK = 1 << 16


def inner_path(path: str | pathlib.Path) -> pathlib.Path:
    """Return a path without the ending of its packing: reviews.csv of reviews.csv.gz.

    Of a zip archive without another ending the name of its one file counts.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in ENDINGS:
        return path
    inner = path.with_suffix("")
    if path.suffix.lower() == ".zip" and not inner.suffix and path.is_file():
        with zip_errors(str(path)), zipfile.ZipFile(path) as archive:
            return inner.with_suffix(
                pathlib.PurePosixPath(_only_member(archive, str(path)).filename).suffix
            )
    return inner


@dataclasses.dataclass(frozen=True)
class Source:
    """Where bytes come from.

    Attributes:
      file: open for reading.
      where: names it in messages.
      packing: a value of ENDINGS that its name says; the content must agree. None: the content
        alone decides.
      start: the place of its first byte; None for a pipe, which is read once.
    """

    file: BinaryIO
    where: str
    packing: str | None = None
    start: int | None = None

    @classmethod
    def of(cls, file: BinaryIO, where: str, *, name: str = "") -> "Source":
        """Return the source of an open file; name: of the file, whose ending may say how it is
        packed.
        """
        packing = ENDINGS.get(pathlib.PurePath(name).suffix.lower())
        return cls(file, where, packing, file.tell() if file.seekable() else None)

    @property
    def can_reopen(self) -> bool:
        """Say whether the bytes can be read more than once."""
        return self.start is not None

    def size(self) -> int | None:
        """Return the bytes of the file as it is stored; None where it is a pipe or empty."""
        if self.start is None:
            return None
        place = self.file.tell()
        size = self.file.seek(0, io.SEEK_END)
        self.file.seek(place)
        return size or None

    def open(self) -> BinaryIO:
        """Return the unpacked bytes from the first on; of a pipe once.

        Raises:
          ValueError: the packing is not the one that the name says, or is damaged; later while it
            is read, too.
        """
        if self.start is not None:
            self.file.seek(self.start)
        head = self.file.readline(_HEAD_BYTES)  # a line that is typed has an end before that
        found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        if self.packing and found != self.packing:
            name = self.packing
            raise ValueError(
                f"{self.where} is not a whole {name} file: it starts with {head!r}; fetch it again"
            )
        if self.start is not None:
            self.file.seek(self.start)
        raw = _Counted(self.file, b"" if self.start is not None else head)
        if found == "zip":
            return self._open_zip()
        if found is None:
            return io.BufferedReader(raw, _CHUNK)
        with self._errors(found):
            unpacked = _open_packed(raw, found)
        return io.BufferedReader(_Limited(unpacked, raw, where=self.where, kind=found), _CHUNK)

    def _open_zip(self) -> BinaryIO:
        """Return the bytes of the one file of an archive."""
        if self.start is None:
            raise ValueError(
                f"{self.where} is a zip archive in a pipe; give the file by name, or unzip it first"
            )
        with zip_errors(self.where):
            archive = zipfile.ZipFile(self.file)
            member = _only_member(archive, self.where)
            counted = _Counted(io.BytesIO(), b"")
            counted.num_bytes = member.compress_size
            return io.BufferedReader(
                _Limited(archive.open(member), counted, where=self.where, kind="zip"), _CHUNK
            )

    @contextlib.contextmanager
    def _errors(self, kind: str) -> Iterator[None]:
        with packing_errors(self.where, kind):
            yield


@contextlib.contextmanager
def open_source(path: pathlib.Path) -> Iterator[Source]:
    """Open a file as a source of bytes."""
    with open(path, "rb") as file:
        yield Source.of(file, str(path), name=path.name)


@contextlib.contextmanager
def packing_errors(where: str, kind: str) -> Iterator[None]:
    """Turn what the unpackers say of a damaged file into a ValueError that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        said = str(error).split("\n")[0][:200] or type(error).__name__
        raise ValueError(f"{where} is not a whole {kind} file: {said}; fetch it again") from error


@contextlib.contextmanager
def zip_errors(where: str) -> Iterator[None]:
    """Turn what zipfile says of a damaged or locked archive into a ValueError that names it."""
    try:
        yield
    except _ZIP_ERRORS as error:
        said = str(error).split("\n")[0][:200] or type(error).__name__
        raise ValueError(
            f"{where} is not a readable zip archive: {said}; unzip it, or fetch it again"
        ) from error


def _only_member(archive: zipfile.ZipFile, where: str) -> zipfile.ZipInfo:
    """Return the one file of an archive; ValueError where it holds several or none."""
    members = [
        item for item in archive.infolist() if not item.is_dir() and not _is_hidden(item.filename)
    ]
    if len(members) != 1:
        names = ", ".join(repr(item.filename)[:60] for item in members[:5]) or "nothing"
        raise ValueError(
            f"{where} holds {len(members)} files ({names}); expected one: unzip it and give the "
            f"folder"
        )
    return members[0]


def _is_hidden(name: str) -> bool:
    """Say whether a member of an archive is one that systems add."""
    return name.startswith("__MACOSX/") or pathlib.PurePosixPath(name).name.startswith(".")


def _open_packed(raw: "_Counted", kind: str):
    """Return a reader of what a stream of a kind holds."""
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    if kind == "xz":
        return _Xz(raw)
    import pyarrow  # heavy, and needed for this packing only

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")


class _Counted(io.RawIOBase):
    """Bytes of a file after those of its head, counted; the file stays open."""

    def __init__(self, file: BinaryIO, head: bytes):
        self._file, self._head, self.num_bytes = file, head, 0
        self._read = getattr(file, "read1", file.read)  # what a pipe has, without waiting for more

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer) -> int:
        """Read the next bytes into the buffer and return their number."""
        part, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        part = part or self._read(len(buffer))
        buffer[: len(part)] = part
        self.num_bytes += len(part)
        return len(part)


class _Xz(io.RawIOBase):
    """What streams of xz hold; a dictionary may claim MAX_XZ_MEMORY."""

    def __init__(self, raw: _Counted):
        self._raw, self._unpacker, self._rest = (
            raw,
            lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY),
            b"",
        )

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` unpacked bytes; none at the end.

        Raises EOFError where the file is cut.
        """
        while True:
            if self._unpacker.eof:
                self._rest = (self._unpacker.unused_data or self._raw.read(_CHUNK)).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._unpacker = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
            elif self._unpacker.needs_input:
                self._rest = self._rest or self._raw.read(_CHUNK)
                if not self._rest:
                    raise EOFError("it ends before its end marker")
            part, self._rest = self._unpacker.decompress(self._rest, max_length=size), b""
            if part:
                return part


class _Limited(io.RawIOBase):
    """Unpacked bytes; ValueError where there are far more of them than of packed ones, or the
    packing is damaged.
    """

    def __init__(self, unpacked, raw: _Counted, *, where: str, kind: str):
        self._unpacked, self._raw, self._where, self._kind, self._count = (
            unpacked,
            raw,
            where,
            kind,
            0,
        )

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer) -> int:
        """Read the next bytes into the buffer and return their number."""
        errors = (
            zip_errors(self._where)
            if self._kind == "zip"
            else packing_errors(self._where, self._kind)
        )
        with errors:
            part = self._unpacked.read(len(buffer))
        self._count += len(part)
        check_ratio(self._count, self._raw.num_bytes, self._where)
        buffer[: len(part)] = part
        return len(part)


def check_ratio(num_unpacked: int, num_packed: int, where: str) -> None:
    """Raise ValueError where a file unpacks to far more than text does."""
    if num_unpacked > FREE_BYTES and num_unpacked > MAX_RATIO * max(num_packed, 1):
        raise ValueError(
            f"{where} unpacks to more than {MAX_RATIO} times its {num_packed} bytes, which no "
            f"text does; "
            "if you trust it, unpack it yourself and give the unpacked file"
        )
