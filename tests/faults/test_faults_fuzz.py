"""Run the fuzzer for a short time: changed files load, or raise one line."""

import random

import pytest

from tests.faults import fuzz


@pytest.mark.parametrize("seed", [0])
def test_changed_files_load_or_raise_one_line(tmp_path, seed):
    count, found = fuzz.fuzz_readers(3.0, seed, tmp_path)
    assert count > 100 and found == {}


def test_every_reader_reads_its_own_file(tmp_path):
    for reader in fuzz.readers.seed_readers():
        path = tmp_path / f"train-{reader.name}"
        path.write_bytes(reader.content)
        if not reader.content or reader.content.startswith(
            b'{"Data"'
        ):  # whose document is not there
            continue
        reader.read(path)


def test_the_same_seed_makes_the_same_changes():
    def changed(seed):
        generator = random.Random(seed)
        return [fuzz.change(b'{"a": [1, 2]}', generator, [b"other"]) for _ in range(50)]

    assert changed(1) == changed(1) != changed(2)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("a.csv: row 1 is bad"), None),
        (OSError("no such file"), None),
        (ValueError("a\nb"), "a message of 3 characters"),
        (ValueError("a" * 1001), "a message of 1001 characters"),
        (KeyError("a"), "KeyError"),
        (RecursionError("deep"), "RecursionError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError names no file"),
    ],
)
def test_the_fuzzer_reports_undocumented_errors_only(error, message):
    def check():
        raise error

    found = fuzz.complaint(check)
    assert found is None if message is None else found[1].startswith(message)
