"""Changes whole files in many small ways and reads them: anything but a ValueError or OSError of one line is a fault.

Run it with `python -m tests.faults.fuzz --target=readers --seconds=180`. It prints one line a distinct place of a fault
and ends with 1 where there is one. The same seed gives the same changes.
"""

import argparse
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
from tests.faults import readers

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


class Spot(NamedTuple):
    """A place in a file, and the end of a part from there."""

    content: bytes
    place: int
    end: int


def change(content: bytes, generator: random.Random, others: list[bytes]) -> bytes:
    """Return the content with a few changes of bytes, parts, tokens, or of values of its JSON."""
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(content) + 1)
        end = min(len(content), place + generator.choice((1, 1, 4, 40, 400)))
        content = generator.choice(CHANGES)(Spot(content, place, end), generator, others)[
            :MAX_CHANGED_BYTES
        ]
    return content


def _flip(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Flip a bit."""
    content, place, end = spot
    if place == len(content):
        return content
    return (
        content[:place]
        + bytes([content[place] ^ 1 << generator.randrange(8)])
        + content[place + 1 :]
    )


def _cut(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Cut the end off."""
    content, place, end = spot
    return content[:place]


def _remove(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Remove a part."""
    content, place, end = spot
    return content[:place] + content[end:]


def _repeat(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Write a part again, once or often."""
    content, place, end = spot
    return content[:place] + content[place:end] * generator.choice((2, 2, 3, 50)) + content[end:]


def _splice(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Put a part of another file there."""
    content, place, end = spot
    other = generator.choice(others)
    start = generator.randrange(len(other) + 1)
    return content[:place] + other[start : start + generator.choice((8, 80, 800))] + content[end:]


def _insert(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Put a token there."""
    content, place, end = spot
    return content[:place] + generator.choice(TOKENS) + content[generator.choice((place, end)) :]


def _nest(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Nest a part deeply, with its brackets closed or not."""
    content, place, end = spot
    depth = generator.choice((50, 500, 900, 5000))
    opened, closed = generator.choice(
        ((b"[", b"]"), (b'{"a":', b"}"), (b'{"paragraphs":', b"}"), (b"(", b")"))
    )
    return (
        content[:place]
        + opened * depth
        + content[place:end]
        + closed * generator.choice((0, depth))
        + content[end:]
    )


def _change_json(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Replace a value inside of JSON, or remove or double a field."""
    content, place, end = spot
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content
    holders = [holder for holder in _walk(value) if holder]
    if holders:
        holder = generator.choice(holders)
        key = generator.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if generator.random() < 0.2:
            del holder[key]
        else:
            holder[key] = generator.choice(
                (*VALUES, holder[key], value if generator.random() < 0.1 else None)
            )
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):  # it is inside of itself now
        return content


def _walk(value) -> Iterator[list | dict]:
    """Yield all lists and objects inside of a value."""
    if isinstance(value, list | dict):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _walk(item)


def _pack(spot: Spot, generator: random.Random, others: list[bytes]) -> bytes:
    """Change what a gzip file holds, and pack it again."""
    content, place, end = spot
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, ValueError, gzip.zlib.error):
        return content
    return gzip.compress(
        _insert(Spot(inner, min(place, len(inner)), min(end, len(inner))), generator, others),
        mtime=0,
    )


CHANGES = (
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
    """Run a check and return (place, what is wrong) where it fails in another way than it may."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check()
    except (ValueError, OSError) as error:
        message = str(error)
        if isinstance(error, UnicodeError | json.JSONDecodeError):
            return _place_of(error), f"{type(error).__name__} names no file: {message[:80]!r}"
        if len(message) > MAX_MESSAGE or "\n" in message or not message:
            return _place_of(error), f"a message of {len(message)} characters: {message[:80]!r}"
    except Exception as error:  # whatever it is, it is what is looked for
        return _place_of(error), f"{type(error).__name__}: {str(error)[:80]!r}"
    return None


def _place_of(error: Exception) -> str:
    """Return the last place of our own in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if "adapler_jax" in frame.filename and "tests" not in frame.filename
    ] or frames
    return f"{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}"


def fuzz_readers(seconds: float, seed: int, folder: pathlib.Path) -> tuple[int, dict[str, str]]:
    """Read changed files of every form for some seconds; return their number and what is wrong by place."""
    generator, found, count = random.Random(seed), {}, 0
    seeds = readers.seed_readers()
    contents = [reader.content for reader in seeds]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        reader = generator.choice(seeds)
        path = folder / f"train-{reader.name}"
        content = change(reader.content, generator, contents)
        path.write_bytes(content)
        problem = complaint(lambda reader=reader, path=path: reader.read(path))
        if problem and problem[0] not in found:
            found[problem[0]] = f"{problem[1]} of {reader.name} {content[:60]!r}"
        count += 1
    return count, found


def fuzz_models(seconds: float, seed: int, folder: pathlib.Path) -> tuple[int, dict[str, str]]:
    """Load changed model folders for some seconds; return their number and what is wrong by place."""
    from tests.faults import model_folders

    generator, found, count = random.Random(seed), {}, 0
    seeds = [path for path in model_folders.seed_folders(folder)]
    files = [file for path in seeds for file in sorted(path.rglob("*")) if file.is_file()]
    contents = {file: file.read_bytes() for file in files}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        model = generator.choice(seeds)
        file = generator.choice([file for file in files if file.is_relative_to(model)])
        file.write_bytes(change(contents[file], generator, list(contents.values())))
        problem = complaint(lambda model=model: model_folders.check(model))
        if problem and problem[0] not in found:
            found[problem[0]] = f"{problem[1]} of {file.relative_to(folder)}"
        file.write_bytes(contents[file])
        count += 1
    return count, found


TARGETS = {"readers": fuzz_readers, "models": fuzz_models}


def main(arguments: list[str] | None = None) -> int:
    """Run a target and print what is wrong, a line each; return 1 where something is."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.fuzz", description="Reads changed files."
    )
    parser.add_argument("--target", choices=sorted(TARGETS), default="readers")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        count, found = TARGETS[options.target](options.seconds, options.seed, pathlib.Path(folder))
    for place, problem in sorted(found.items()):
        print(f"{place}: {problem}")
    print(
        f"{count} changed files by seed {options.seed}: {len(found)} places with faults",
        file=sys.stderr,
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
