"""Compressed files give the rows of plain files; damaged and unreasonably large ones are named."""

import bz2
import gzip
import lzma
import random

import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.data.sources import compression
from adapler_jax.data.sources.files import load_files
from adapler_jax.serving.streams import read_windows
from tests.data.sources.plain_rows import COLUMNS, CSV, streamed, table, write, zipped


def zstd(content):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "zip": lambda content: zipped(content, "__MACOSX/x", "folder/reviews.csv"),
}


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_give_the_rows_of_plain_files(tmp_path, ending):
    content = PACKERS[ending](CSV.encode())
    assert table(write(tmp_path / f"reviews.csv.{ending}", content)).columns == COLUMNS
    assert streamed(content, "csv", f"reviews.csv.{ending}")[0] == COLUMNS["text"]
    assert streamed(content, "csv", "reviews.csv")[0] == COLUMNS["text"]  # the content decides


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_of_a_folder_are_its_splits(tmp_path, ending):
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.csv.{ending}", PACKERS[ending](CSV.encode()))
    assert set(load_files(str(tmp_path))) == {"train", "validation"}


def test_a_zip_archive_has_the_kind_of_its_only_file(tmp_path):
    assert table(write(tmp_path / "reviews.zip", zipped(CSV, "../../a.csv"))).columns == COLUMNS
    several = ("a.csv", "b.csv")
    for names, message in (
        (several, "holds 2 files .*'a.csv'.*expected one"),
        ((), "is not a whole zip file"),
    ):
        with pytest.raises(ValueError, match=message):
            table(write(tmp_path / "several.csv.zip", zipped(CSV, *names)))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_concatenated_streams_are_one(tmp_path, ending):
    half = len(CSV) // 2
    content = b"".join(PACKERS[ending](part) for part in (CSV.encode()[:half], CSV.encode()[half:]))
    assert table(write(tmp_path / f"a.csv.{ending}", content)).columns == COLUMNS


@pytest.mark.parametrize("ending", PACKERS)
def test_errors_of_damaged_compressed_files_name_the_file(tmp_path, ending):
    pack = PACKERS[ending] if ending != "zip" else lambda content: zipped(content, "a.csv")
    content = pack("".join(f"film {random.Random(n).random()},1\n" for n in range(500)).encode())
    changed = (
        [] if ending == "zst" else [content[:40] + b"\0\xff" * 20 + content[80:]]
    )  # zst: without a checksum
    for damaged in (content[: len(content) // 2], b"plain text", *changed):
        with pytest.raises(ValueError, match=f"a.csv.{ending} .*fetch it again"):
            table(write(tmp_path / f"a.csv.{ending}", damaged))


@pytest.mark.parametrize("ending", ["gz", "xz", "zst", "zip"])
def test_a_file_that_decompresses_to_far_more_than_text_raises(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 20)
    pack = PACKERS[ending] if ending != "zip" else lambda content: zipped(content, "a.csv")
    path = write(
        tmp_path / f"a.csv.{ending}", pack(b"text,label\n" + (b"a" * 10_000 + b",1\n") * 400)
    )
    with pytest.raises(
        ValueError, match=f"a.csv.{ending} unpacks to more than 250 times its .*unpack it yourself"
    ):
        table(path)
    with (
        pytest.raises(ValueError, match="unpacks to more than 250 times"),
        open(path, "rb") as file,
    ):
        list(read_windows(file, "csv", path, columns=["text"]))


def test_parquet_that_claims_far_more_than_it_holds_raises(tmp_path):
    pyarrow.parquet.write_table(
        pyarrow.table({"text": pyarrow.repeat("a", 2_000_000)}), tmp_path / "a.parquet"
    )
    with pytest.raises(
        ValueError, match=r"a.parquet claims 2000000 rows in .*no table of texts is so"
    ):
        table(tmp_path / "a.parquet")
