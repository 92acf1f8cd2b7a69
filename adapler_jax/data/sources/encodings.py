"""Decode bytes to text: by a byte order mark, by the user's encoding, or as UTF-8."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from adapler_jax.data.sources.compression import MAX_LINE_BYTES, Readable
from adapler_jax.io.messages import explain_unknown

CHUNK = 1 << 20
_COMMON = tuple("utf-8 utf-16 latin-1 cp1252 gb18030 shift_jis euc_kr koi8_r cp1251".split())
# UTF-32's mark starts with UTF-16's, so it is compared first.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HINT = "convert it, or name its encoding with config.data.encoding (of predict: --encoding)"


def check_encoding(name: str) -> str:
    """Return Python's name of an encoding; empty stays empty.

    Raises:
      ValueError: Python has no text encoding of this name.
    """
    if not name:
        return ""
    try:
        "a".encode(name)
        return codecs.lookup(name).name
    except (LookupError, UnicodeError, TypeError, ValueError) as error:
        known = explain_unknown("encoding", str(name)[:40], _COMMON)
        raise ValueError(
            f"config.data.encoding or --encoding: {known}, and every other text encoding of Python"
        ) from error


class TextReader:
    """The text of a binary stream; its mark overrides the given encoding, which overrides UTF-8."""

    def __init__(self, file: Readable, where: str, *, encoding: str = ""):
        """Read the start of the stream; `where` names it in messages."""
        self._file, self._where = file, where
        self._head = file.read(4)
        self.encoding = _marked_encoding(self._head) or check_encoding(encoding) or "utf-8"
        self._decoder = codecs.getincrementaldecoder(self.encoding)()
        self._num_bytes = 0

    def read(self, size: int = -1) -> str:
        """Return about `size` characters; all if it is negative; empty at the end.

        Raises:
          ValueError: the bytes do not have the encoding.
        """
        while True:
            num_bytes = size if size < 0 else max(size - len(self._head), 1)
            data = self._head + self._file.read(num_bytes)
            self._head = b""
            try:
                text = self._decoder.decode(data, final=not data or size < 0)
            except UnicodeError as error:
                raise ValueError(self._complaint(error)) from error
            self._num_bytes += len(data)
            if text or not data:
                return text

    def lines(self) -> Iterator[str]:
        """Yield the lines with their ends; only a line feed ends a line."""
        parts: list[str] = []
        num_characters, number = 0, 1
        while text := self.read(CHUNK):
            *whole, rest = text.split("\n")
            for line in whole:
                yield "".join([*parts, line, "\n"])
                parts, num_characters, number = [], 0, number + 1
            parts.append(rest)
            num_characters += len(rest)
            check_line(num_characters, f"{self._where}: line {number}")
        if num_characters:
            yield "".join(parts)

    def _complaint(self, error: UnicodeError) -> str:
        """Name the first byte that does not have the encoding."""
        offset = self._num_bytes + getattr(error, "start", 0)
        is_default = self.encoding.startswith("utf-8")
        name = "UTF-8" if is_default else self.encoding
        advice = _HINT if is_default else "name another encoding, or convert it"
        return f"{self._where} is not {name} at byte {offset}; {advice}"


def check_line(length: int, location: str) -> None:
    """Raise ValueError if a line is longer than any text."""
    if length > MAX_LINE_BYTES:
        raise ValueError(
            f"{location} has more than {MAX_LINE_BYTES >> 20} MiB; no text is so long: is a line "
            "end, a quote or a bracket missing?"
        )


def decode_lines(file: BinaryIO, where: str, *, encoding: str = "") -> Iterator[str]:
    """Yield lines with their ends.

    Only a line feed ends a line, so a text may hold Unicode's other line separators.

    Args:
      file: decompressed bytes.
      where: names the file in messages.
      encoding: used without a byte order mark; empty means UTF-8.

    Raises:
      ValueError: a line does not have the encoding, or is longer than any text.
    """
    first = file.readline(MAX_LINE_BYTES + 1)
    mark = _marked_encoding(first)
    is_wide = mark in ("utf-16", "utf-32")
    if is_wide or (not mark and check_encoding(encoding) not in ("", "utf-8")):
        yield from TextReader(_After(first, file), where, encoding=encoding).lines()
        return
    line, number = first.removeprefix(codecs.BOM_UTF8), 1
    while line or number == 1:
        check_line(len(line), f"{where}: line {number}")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            problem = f"{where}: line {number} is not UTF-8 at its byte {error.start}"
            raise ValueError(f"{problem}; {_HINT}{_guess(first)}") from error
        if text:
            yield text
        line, number = file.readline(MAX_LINE_BYTES + 1), number + 1


def _marked_encoding(head: bytes) -> str:
    """Return the encoding of the byte order mark at the start of bytes; empty without a mark."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")


def _guess(first: bytes) -> str:
    """Name the likely encoding of a first line without a mark."""
    return "; it looks like utf-16-le" if first[1:8:2] == b"\0\0\0\0" else ""


class _After:
    """A file with bytes before it that are already consumed."""

    def __init__(self, head: bytes, file: BinaryIO):
        self._head, self._file = head, file

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        if size < 0:
            part, self._head = self._head, b""
            return part + self._file.read()
        part, self._head = self._head[:size], self._head[size:]
        return part or self._file.read(size)
