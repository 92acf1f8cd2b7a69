"""Change whole files in many small ways and read them; report undocumented errors.

A documented error is a ValueError or OSError with a message of one line. Run the fuzzer with
`python -m tests.faults.fuzz --target=readers --seconds=180`. It prints one line for each location
of a fault and ends with 1 if it finds a fault. Equal seeds give equal changes.
"""

import argparse
import functools
import gzip
import json
import pathlib
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from adapler_jax.io.messages import MAX_MESSAGE
from tests.faults import model_folders, readers

MAX_CHANGED_BYTES = 1 << 20
TOKENS = (
    b'"',
    b"'",
    b",",
    b";",
    b"\t",
    b"|",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[]",
    b"{}",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"0.5",
    b"9" * 5000,
    b"1" * 30,
    b'""',
    b'"\\ud800"',
    b"\\u0000",
    b'"text"',
    b'"data"',
    b'"columns"',
    b'"qas"',
    b'"paragraphs"',
    b'"id"',
    b'"label"',
    b'"answers"',
    b'"context"',
    b"../../",
    b"/etc/passwd",
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"PAR1",
    "\u2028\u200b\U0001f600".encode(),
    b"a" * 3000,
)
VALUES = (
    None,
    True,
    -1,
    0.5,
    10**30,
    "",
    "a" * 3000,
    "line\nline",
    [],
    {},
    [[]],
    {"a": {}},
    ["a", 1],
    float("nan"),
)
BRACKETS = ((b"[", b"]"), (b'{"a":', b"}"), (b'{"paragraphs":', b"}"), (b"(", b")"))


class Spot(NamedTuple):
    """A part of a file."""

    content: bytes
    start: int
    end: int

    @property
    def before(self) -> bytes:
        """Return the bytes before the part."""
        return self.content[: self.start]

    @property
    def part(self) -> bytes:
        """Return the bytes of the part."""
        return self.content[self.start : self.end]

    @property
    def after(self) -> bytes:
        """Return the bytes after the part."""
        return self.content[self.end :]


Change = Callable[[Spot, random.Random, list[bytes]], bytes]


def change(content: bytes, generator: random.Random, others: list[bytes]) -> bytes:
    """Return the content with a few changes of bytes, parts, tokens, or values of its JSON."""
    for _ in range(generator.randint(1, 4)):
        start = generator.randrange(len(content) + 1)
        end = min(len(content), start + generator.choice((1, 1, 4, 40, 400)))
        apply = generator.choice(CHANGES)
        content = apply(Spot(content, start, end), generator, others)[:MAX_CHANGED_BYTES]
    return content


def _flip(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Flip a bit."""
    content, start, _ = spot
    if start == len(content):
        return content
    flipped = bytes([content[start] ^ 1 << generator.randrange(8)])
    return spot.before + flipped + content[start + 1 :]


def _cut(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Remove the end of the file."""
    return spot.before


def _remove(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Remove the part."""
    return spot.before + spot.after


def _repeat(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Repeat the part."""
    return spot.before + spot.part * generator.choice((2, 2, 3, 50)) + spot.after


def _splice(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Replace the part with a part of another file."""
    other = generator.choice(others)
    start = generator.randrange(len(other) + 1)
    return spot.before + other[start : start + generator.choice((8, 80, 800))] + spot.after


def _insert(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Insert a token, or replace the part with it."""
    token = generator.choice(TOKENS)
    return spot.before + token + spot.content[generator.choice((spot.start, spot.end)) :]


def _nest(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Nest the part deeply, with closing brackets or without."""
    depth = generator.choice((50, 500, 900, 5000))
    opened, closed = generator.choice(BRACKETS)
    num_closed = generator.choice((0, depth))
    return spot.before + opened * depth + spot.part + closed * num_closed + spot.after


def _change_json(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Replace a value inside JSON, or remove or double a field."""
    try:
        value = json.loads(spot.content)
    except (ValueError, RecursionError):
        return spot.content
    holders = [holder for holder in _walk(value) if holder]
    if holders:
        holder = generator.choice(holders)
        key = generator.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if generator.random() < 0.2:
            del holder[key]
        else:
            nested = value if generator.random() < 0.1 else None
            holder[key] = generator.choice((*VALUES, holder[key], nested))
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):  # the value contains itself now
        return spot.content


def _walk(value) -> Iterator[list | dict]:
    """Yield all lists and objects inside a value."""
    if isinstance(value, list | dict):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _walk(item)


def _pack(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Change the content of a gzip file and compress it again."""
    content, start, end = spot
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, ValueError, gzip.zlib.error):
        return content
    inner_spot = Spot(inner, min(start, len(inner)), min(end, len(inner)))
    return gzip.compress(_insert(inner_spot, generator, others), mtime=0)


CHANGES: tuple[Change, ...] = (
    _flip,
    _flip,
    _cut,
    _remove,
    _repeat,
    _splice,
    _insert,
    _insert,
    _nest,
    _change_json,
    _change_json,
    _pack,
)


def complaint(check: Callable[[], None]) -> tuple[str, str] | None:
    """Run a check; return the location and the description of an undocumented error, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check()
    except (ValueError, OSError) as error:
        message = str(error)
        if isinstance(error, UnicodeError | json.JSONDecodeError):
            return _location_of(error), f"{type(error).__name__} names no file: {message[:80]!r}"
        if len(message) > MAX_MESSAGE or "\n" in message or not message:
            return _location_of(error), f"a message of {len(message)} characters: {message[:80]!r}"
    except Exception as error:  # every other error is a fault
        return _location_of(error), f"{type(error).__name__}: {str(error)[:80]!r}"
    return None


def _location_of(error: Exception) -> str:
    """Return the last line of the library in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if "adapler_jax" in frame.filename and "tests" not in frame.filename
    ] or frames
    return f"{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}"


def fuzz_readers(seconds: float, seed: int, folder: pathlib.Path) -> tuple[int, dict[str, str]]:
    """Read changed files of every form for some seconds.

    Returns:
      The number of files, and the faults by location.
    """
    generator, found, count = random.Random(seed), {}, 0
    seeds = readers.seed_readers()
    contents = [reader.content for reader in seeds]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reader = generator.choice(seeds)
        path = folder / f"train-{reader.name}"
        content = change(reader.content, generator, contents)
        path.write_bytes(content)
        problem = complaint(functools.partial(reader.read, path))
        if problem and problem[0] not in found:
            found[problem[0]] = f"{problem[1]} of {reader.name} {content[:60]!r}"
        count += 1
    return count, found


def fuzz_models(seconds: float, seed: int, folder: pathlib.Path) -> tuple[int, dict[str, str]]:
    """Load changed model folders for some seconds; return as `fuzz_readers` does."""
    generator, found, count = random.Random(seed), {}, 0
    seeds = model_folders.seed_folders(folder)
    files = [file for path in seeds for file in sorted(path.rglob("*")) if file.is_file()]
    contents = {file: file.read_bytes() for file in files}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        model = generator.choice(seeds)
        file = generator.choice([file for file in files if file.is_relative_to(model)])
        file.write_bytes(change(contents[file], generator, list(contents.values())))
        problem = complaint(functools.partial(model_folders.check, model))
        if problem and problem[0] not in found:
            found[problem[0]] = f"{problem[1]} of {file.relative_to(folder)}"
        file.write_bytes(contents[file])
        count += 1
    return count, found


TARGETS = {"readers": fuzz_readers, "models": fuzz_models}


def main(arguments: list[str] | None = None) -> int:
    """Run a target and print each fault on a line; return 1 if there is one."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.fuzz", description="Read changed files."
    )
    parser.add_argument("--target", choices=sorted(TARGETS), default="readers")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        count, found = TARGETS[options.target](options.seconds, options.seed, pathlib.Path(folder))
    for location, problem in sorted(found.items()):
        print(f"{location}: {problem}")
    print(
        f"{count} changed files by seed {options.seed}: {len(found)} locations with faults",
        file=sys.stderr,
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
