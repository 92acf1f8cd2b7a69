"""Bytes to text: UTF-8, what a byte order mark says, or the encoding that the user names."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from adapler_jax.data.sources.compression import MAX_LINE_BYTES
from adapler_jax.io.messages import explain_unknown

CHUNK = 1 << 20
USUAL = (
    "utf-8",
    "utf-16",
    "latin-1",
    "cp1252",
    "gb18030",
    "shift_jis",
    "euc_kr",
    "koi8_r",
    "cp1251",
)
# The longer marks go first: that of UTF-32 starts with the one of UTF-16.
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

    Raises ValueError where it is none of text.
    """
    if not name:
        return ""
    try:
        "a".encode(name)
        return codecs.lookup(name).name
    except (LookupError, UnicodeError, TypeError, ValueError) as error:
        known = explain_unknown("encoding", str(name)[:40], USUAL)
        raise ValueError(
            f"config.data.encoding or --encoding: {known}, and every other text encoding of Python"
        ) from error


class TextReader:
    """Text of a binary stream. Its mark decides the encoding, then the given one, then UTF-8."""

    def __init__(self, file: BinaryIO, where: str, *, encoding: str = ""):
        """Read the start of the stream; where: names it in messages."""
        self._file, self._where = file, where
        self._head = file.read(4)
        mark = next((name for mark, name in _MARKS.items() if self._head.startswith(mark)), "")
        self.encoding = mark or check_encoding(encoding) or "utf-8"
        self._decoder = codecs.getincrementaldecoder(self.encoding)()
        self._num_bytes = 0

    def read(self, size: int = -1) -> str:
        """Return about `size` characters, of all where it is negative; empty at the end.

        Raises:
          ValueError: the bytes are not of the encoding.
        """
        while True:
            data = self._head + self._file.read(
                size if size < 0 else max(size - len(self._head), 1)
            )
            self._head = b""
            try:
                text = self._decoder.decode(data, final=not data or size < 0)
            except UnicodeError as error:
                raise ValueError(self._complaint(error)) from error
            self._num_bytes += len(data)
            if text or not data:
                return text

    def lines(self) -> Iterator[str]:
        """Yield the lines with their ends; only a line feed ends one."""
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
        """Say where the bytes are not of the encoding."""
        place = self._num_bytes + getattr(error, "start", 0)
        is_default = self.encoding.startswith("utf-8")
        name = "UTF-8" if is_default else self.encoding
        advice = _HINT if is_default else "name another encoding, or convert it"
        return f"{self._where} is not {name} at byte {place}; {advice}"


def check_line(length: int, place: str) -> None:
    """Raise ValueError where a line is longer than any text."""
    if length > MAX_LINE_BYTES:
        raise ValueError(
            f"{place} has more than {MAX_LINE_BYTES >> 20} MiB; no text is so long: is a line end, "
            "a quote or a bracket missing?"
        )


def decode_lines(file: BinaryIO, where: str, *, encoding: str = "") -> Iterator[str]:
    """Yield lines with their ends; only a line feed ends one, whatever Unicode separators a text
    holds.

    Args:
      file: unpacked bytes.
      where: names it in messages.
      encoding: where no byte order mark says another; empty: UTF-8.

    Raises:
      ValueError: a line is not of the encoding, or is longer than any text.
    """
    first = file.readline(MAX_LINE_BYTES + 1)
    mark = next((name for mark, name in _MARKS.items() if first.startswith(mark)), "")
    if mark.startswith(("utf-16", "utf-32")) or (
        not mark and check_encoding(encoding) not in ("", "utf-8")
    ):
        yield from TextReader(_After(first, file), where, encoding=encoding).lines()
        return
    line, number = first.removeprefix(codecs.BOM_UTF8), 1
    while line or number == 1:
        check_line(len(line), f"{where}: line {number}")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"{where}: line {number} is not UTF-8 at its byte {error.start}"
            raise ValueError(f"{place}; {_HINT}{_guess(first)}") from error
        if text:
            yield text
        line, number = file.readline(MAX_LINE_BYTES + 1), number + 1


def _guess(first: bytes) -> str:
    """Say what bytes without a mark may be."""
    return "; it looks like utf-16-le" if first[1:8:2] == b"\0\0\0\0" else ""


class _After:
    """A file after bytes of it that were read."""

    def __init__(self, head: bytes, file: BinaryIO):
        self._head, self._file = head, file

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        part, self._head = self._head[:size], self._head[size:]
        return part or self._file.read(size)
