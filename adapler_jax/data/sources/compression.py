"""Decompress files and pipes: gzip, bzip2, xz, Zstandard, and zip archives of one file."""

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
from typing import BinaryIO, Protocol, cast

ENDINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard", ".zip": "zip"}
MAX_LINE_BYTES = 1 << 27  # of a line or a field; no text is longer
MAX_XZ_MEMORY = 1 << 28  # bytes that an xz dictionary may claim
FREE_BYTES = 1 << 26  # every compressed file may decompress to this many bytes
MAX_RATIO = 250  # decompressed to compressed bytes; prose has a ratio of 2 to 10
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
}
_HEAD_BYTES = 6
_STREAM_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_DIRECTORY_ERRORS = (struct.error, IndexError, KeyError, OverflowError, UnicodeDecodeError)
_ZIP_ERRORS = (
    *_STREAM_ERRORS,
    *_DIRECTORY_ERRORS,  # of zipfile on a damaged directory
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
)
_CHUNK = 1 << 16


class Readable(Protocol):
    """An object with the `read` method of a binary file."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        ...


def inner_path(path: str | pathlib.Path) -> pathlib.Path:
    """Return a path without the ending of its compression: reviews.csv for reviews.csv.gz.

    A zip archive without a second ending takes the ending of its only file.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in ENDINGS:
        return path
    inner = path.with_suffix("")
    if path.suffix.lower() != ".zip" or inner.suffix or not path.is_file():
        return inner
    with zip_errors(str(path)), zipfile.ZipFile(path) as archive:
        member = pathlib.PurePosixPath(_only_member(archive, str(path)).filename)
        return inner.with_suffix(member.suffix)


@dataclasses.dataclass(frozen=True)
class Source:
    """An open file or pipe, compressed or not.

    Attributes:
      file: open for reading.
      where: names the source in messages.
      compression: a value of ENDINGS that the name implies; the content must agree. None: only
        the content decides.
      start: offset of the first byte; None for a pipe, which can be read only once.
    """

    file: BinaryIO
    where: str
    compression: str | None = None
    start: int | None = None

    @classmethod
    def of(cls, file: BinaryIO, where: str, *, name: str = "") -> "Source":
        """Return the source of an open file; the ending of `name` may imply a compression."""
        compression = ENDINGS.get(pathlib.PurePath(name).suffix.lower())
        return cls(file, where, compression, file.tell() if file.seekable() else None)

    @property
    def can_reopen(self) -> bool:
        """Return whether the bytes can be read more than once."""
        return self.start is not None

    def size(self) -> int | None:
        """Return the number of stored bytes; None for a pipe or an empty file."""
        if self.start is None:
            return None
        position = self.file.tell()
        size = self.file.seek(0, io.SEEK_END)
        self.file.seek(position)
        return size or None

    def rewind(self) -> None:
        """Move to the first byte; a pipe stays where it is."""
        if self.start is not None:
            self.file.seek(self.start)

    def open(self) -> BinaryIO:
        """Return the decompressed bytes from the first one; for a pipe only once.

        Raises:
          ValueError: the compression differs from the one that the name implies, or the data are
            damaged. Reading the result raises it for later damage.
        """
        self.rewind()
        # A typed line can be shorter than the head, so `readline` does not wait for more.
        head = self.file.readline(_HEAD_BYTES)
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        if self.compression and kind != self.compression:
            raise ValueError(
                f"{self.where} is not a whole {self.compression} file: it starts with {head!r}; "
                "fetch it again"
            )
        self.rewind()
        if kind == "zip":
            return self._open_zip()
        raw = _Counted(self.file, b"" if self.can_reopen else head)
        if kind is None:
            return io.BufferedReader(raw, _CHUNK)
        with compression_errors(self.where, kind):
            decompressed = _decompress(raw, kind)
        return io.BufferedReader(_Limited(decompressed, raw, where=self.where, kind=kind), _CHUNK)

    def _open_zip(self) -> BinaryIO:
        """Return the bytes of the only file of an archive."""
        if not self.can_reopen:
            raise ValueError(
                f"{self.where} is a zip archive in a pipe; give the file by name, or unzip it first"
            )
        with zip_errors(self.where):
            archive = zipfile.ZipFile(self.file)
            member = _only_member(archive, self.where)
            raw = _Counted(io.BytesIO(), b"")
            raw.num_bytes = member.compress_size
            limited = _Limited(archive.open(member), raw, where=self.where, kind="zip")
            return io.BufferedReader(limited, _CHUNK)


@contextlib.contextmanager
def open_source(path: pathlib.Path) -> Iterator[Source]:
    """Open a file as a source of bytes."""
    with open(path, "rb") as file:
        yield Source.of(file, str(path), name=path.name)


@contextlib.contextmanager
def compression_errors(where: str, kind: str) -> Iterator[None]:
    """Turn a decompressor's error into a ValueError that names the file."""
    try:
        yield
    except _STREAM_ERRORS as error:
        reason = _reason(error)
        raise ValueError(f"{where} is not a whole {kind} file: {reason}; fetch it again") from error


@contextlib.contextmanager
def zip_errors(where: str) -> Iterator[None]:
    """Turn zipfile's error on a damaged or locked archive into a ValueError that names it."""
    try:
        yield
    except _ZIP_ERRORS as error:
        reason = _reason(error)
        raise ValueError(
            f"{where} is not a readable zip archive: {reason}; unzip it, or fetch it again"
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of an error, cut to a part of a message."""
    return str(error).split("\n")[0][:200] or type(error).__name__


def _only_member(archive: zipfile.ZipFile, where: str) -> zipfile.ZipInfo:
    """Return the only file of an archive; raise ValueError if it holds several or none."""
    items = archive.infolist()
    members = [item for item in items if not item.is_dir() and not _is_hidden(item.filename)]
    if len(members) != 1:
        names = ", ".join(repr(item.filename)[:60] for item in members[:5]) or "nothing"
        raise ValueError(
            f"{where} holds {len(members)} files ({names}); expected one: unzip it and give the "
            "folder"
        )
    return members[0]


def _is_hidden(name: str) -> bool:
    """Return whether the operating system added this member of an archive."""
    return name.startswith("__MACOSX/") or pathlib.PurePosixPath(name).name.startswith(".")


def _decompress(raw: "_Counted", kind: str) -> Readable:
    """Return a reader of the decompressed bytes of a stream."""
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if kind == "bzip2":
        return bz2.BZ2File(cast(BinaryIO, raw))
    if kind == "xz":
        return _Xz(raw)
    import pyarrow  # heavy, and needed only for this compression

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")


class _Counted(io.RawIOBase):
    """The bytes of a file with a count; `head` holds bytes that are already consumed."""

    def __init__(self, file: BinaryIO, head: bytes):
        self._head = head
        self.num_bytes = 0
        # `read1` returns the bytes that a pipe has, without waiting for more.
        self._read = getattr(file, "read1", file.read)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer) -> int:
        """Read the next bytes into the buffer and return their number."""
        part, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        part = part or self._read(len(buffer))
        buffer[: len(part)] = part
        self.num_bytes += len(part)
        return len(part)


class _Xz(io.RawIOBase):
    """The decompressed bytes of consecutive xz streams, with at most MAX_XZ_MEMORY."""

    def __init__(self, raw: _Counted):
        self._raw = raw
        self._decompressor = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
        self._rest = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; empty at the end.

        Raises:
          EOFError: the file is cut.
        """
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._read_chunk()
                self._rest = rest.lstrip(b"\0")  # padding between streams
                if not self._rest:
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
            elif self._decompressor.needs_input:
                self._rest = self._rest or self._read_chunk()
                if not self._rest:
                    raise EOFError("it ends before its end marker")
            part = self._decompressor.decompress(self._rest, max_length=size)
            self._rest = b""
            if part:
                return part

    def _read_chunk(self) -> bytes:
        """Return the next compressed bytes."""
        return self._raw.read(_CHUNK) or b""


class _Limited(io.RawIOBase):
    """Decompressed bytes; reading raises ValueError on damaged data and on too many bytes."""

    def __init__(self, decompressed: Readable, raw: _Counted, *, where: str, kind: str):
        self._decompressed, self._raw = decompressed, raw
        self._where, self._kind = where, kind
        self._num_bytes = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer) -> int:
        """Read the next bytes into the buffer and return their number."""
        with self._errors():
            part = self._decompressed.read(len(buffer))
        self._num_bytes += len(part)
        check_ratio(self._num_bytes, self._raw.num_bytes, self._where)
        buffer[: len(part)] = part
        return len(part)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        """Return the context that turns errors into a ValueError."""
        if self._kind == "zip":
            return zip_errors(self._where)
        return compression_errors(self._where, self._kind)


def check_ratio(num_decompressed: int, num_compressed: int, where: str) -> None:
    """Raise ValueError if a file decompresses to far more bytes than text does."""
    limit = max(FREE_BYTES, MAX_RATIO * max(num_compressed, 1))
    if num_decompressed > limit:
        raise ValueError(
            f"{where} unpacks to more than {MAX_RATIO} times its {num_compressed} bytes, which no "
            "text does; if you trust it, unpack it yourself and give the unpacked file"
        )
