"""A latency table is read as written; a damaged or foreign one is named and never used."""

import dataclasses
import json
import warnings

import jax
import pytest

from adapler_jax.inference.autotune import table as autotune_table
from adapler_jax.inference.autotune.table import (
    BUNDLED_TABLE,
    bundled_table,
    cached_path,
    check_complete,
    find_table,
    parse_row,
    read_table,
    write_table,
)
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import make_engine
from adapler_jax.io.provenance import device_name, library_versions
from adapler_jax.pruning import keep_all
from tests import tiny
from tests.inference.tables import TABLE, make_row


@pytest.fixture(name="cache")
def _cache(tmp_path, monkeypatch):
    """The path of this device's table under an empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cached_path()


def test_a_table_comes_back_as_written(tmp_path):
    path = tmp_path / "new" / "table.json"
    write_table(TABLE, path)
    assert read_table(path) == TABLE
    assert list(json.loads(path.read_text())) == ["command", "device", "versions", "date", "rows"]
    assert len(path.read_text().splitlines()) < len(TABLE.rows) + 15
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "table.json",
        "table.json.sha256",
    ]


def test_the_bundled_table_serves_every_device():
    assert read_table(BUNDLED_TABLE) == bundled_table()


def test_devices_and_versions_have_their_own_cached_table(cache, monkeypatch):
    assert cache.parts[-3:-1] == ("adapler_jax", "latency") and cache.suffix == ".json"
    names = {cache.name}
    monkeypatch.setattr(autotune_table, "device_name", lambda: "NVIDIA H100 / 80GB")
    names.add(cached_path().name)
    monkeypatch.setattr(
        autotune_table, "library_versions", lambda: library_versions() | {"jax": "9.9.9"}
    )
    names.add(cached_path().name)
    assert len(names) == 3 and any(name.startswith("nvidia_h100_80gb-jax_9.9.9-") for name in names)


def test_a_table_of_this_device_precedes_the_bundled_one(cache):
    assert find_table() is bundled_table() and find_table("") is bundled_table()
    write_table(TABLE, cache)
    assert find_table() == TABLE


def test_a_named_table_precedes_the_cached_one(cache, tmp_path):
    write_table(TABLE, cache)
    named = dataclasses.replace(TABLE, command="mine")
    write_table(named, tmp_path / "mine.json")
    assert (
        find_table(tmp_path / "mine.json")
        == find_table(str(tmp_path / "mine.json"))
        == named
        == find_table(named)
    )


def test_a_table_of_another_device_is_rejected(tmp_path):
    path = tmp_path / "table.json"
    write_table(dataclasses.replace(TABLE, device="a lathe"), path)
    with pytest.raises(ValueError) as caught:
        find_table(path)
    for part in (
        str(path),
        "another device: 'a lathe'",
        repr(device_name()),
        autotune_table.MEASURE_COMMAND,
    ):
        assert part in str(caught.value)


def test_a_table_of_a_device_with_a_long_name_is_rejected_in_a_line(tmp_path):
    hostile = "\x1b[31m\n" * 5000
    for change in ({"device": hostile}, {"versions": {"jax": hostile}}):
        write_table(dataclasses.replace(TABLE, **change), tmp_path / "table.json")
        with pytest.raises(ValueError, match="measured ") as found:
            find_table(tmp_path / "table.json")
        assert len(str(found.value)) <= 1000 and str(found.value).isprintable()


@pytest.mark.parametrize("table", [3, ["table.json"], {"rows": []}, True])
def test_anything_but_a_path_of_a_table_is_rejected(table):
    with pytest.raises(
        ValueError, match=r"autotune_table is .*; expected the path of a table, or none"
    ):
        find_table(table)


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    write_table(TABLE, tmp_path / "table.json")
    monkeypatch.setattr(autotune_table, "MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="it has more than 0 MiB"):
        find_table(tmp_path / "table.json")


@pytest.fixture(name="accelerator")
def _accelerator(cache, monkeypatch):
    """A device that is no CPU, with nothing measured on it."""
    monkeypatch.setattr(autotune_table, "device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    autotune_table.no_table.cache_clear()
    yield
    autotune_table.no_table.cache_clear()


def drivers_of(is_pruned):
    """The drivers that "auto" takes, by batch shape."""
    engine = make_engine(tiny.CONFIG, tiny.PRUNER if is_pruned else keep_all())
    return {engine.select_driver(*shape).driver for shape in ((1, 16), (32, 128), (256, 512))}


@pytest.mark.usefixtures("accelerator")
def test_an_accelerator_without_a_table_of_its_own_gets_the_bucketed_driver_and_one_warning():
    expected = "nothing was measured on NVIDIA H100, .* measure the device once with"
    with pytest.warns(UserWarning, match=expected) as found:
        assert drivers_of(True) == drivers_of(False) == {"bucketed"}
        assert find_table() is None
    assert len(found) == 1 and autotune_table.MEASURE_COMMAND in str(found[0].message)


@pytest.mark.usefixtures("accelerator")
def test_an_accelerator_with_a_table_of_its_own_follows_it():
    rows = tuple(
        dataclasses.replace(row, ms=row.ms / 100 if row.what == "packed" else row.ms)
        for row in TABLE.rows
    )
    table = dataclasses.replace(TABLE, device="NVIDIA H100", rows=rows)
    write_table(table, cached_path())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_table() == table
        assert drivers_of(True) == {"packed"}


def test_a_table_of_another_jax_is_rejected(tmp_path):
    write_table(
        dataclasses.replace(TABLE, versions=library_versions() | {"jax": "0.1"}),
        tmp_path / "table.json",
    )
    with pytest.raises(
        ValueError,
        match=r"measured with other versions: jax 0.1 jaxlib .*, here are jax .*measure again",
    ):
        find_table(tmp_path / "table.json")


def first_row(**changes):
    """The file of a table whose first row has other fields."""
    record = dataclasses.asdict(TABLE)
    record["rows"] = [record["rows"][0] | changes, *record["rows"][1:]]
    return json.dumps(record)


DAMAGES = {
    "empty": "",
    "cut": '{"command": "c", "rows": [{"what',
    "no object": "[]",
    "a number": "3",
    "no rows": '{"command": "c", "device": "d", "versions": {}, "date": "d"}',
    "rows without rungs": json.dumps(
        dataclasses.asdict(TABLE) | {"rows": [dataclasses.asdict(TABLE.rows[0])]}
    ),
    "another field": json.dumps(dataclasses.asdict(TABLE) | {"colour": "red"}),
    "no versions": json.dumps(dataclasses.asdict(TABLE) | {"versions": None}),
    "deeply nested": "[" * 100_000,
    "nested rows": '{"rows": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "rows by name": json.dumps(dataclasses.asdict(TABLE) | {"rows": {"what": "packed"}}),
    "versions that are numbers": json.dumps(dataclasses.asdict(TABLE) | {"versions": {"jax": 1}}),
    "a device in a list": json.dumps(dataclasses.asdict(TABLE) | {"device": ["d"]}),
    "a date that is none": json.dumps(dataclasses.asdict(TABLE) | {"date": 3}),
    "a long name": json.dumps(dataclasses.asdict(TABLE) | {"colour\n\x1b[31m" * 500: "red"}),
    "a number that is none": first_row(ms=float("nan")),
    "an infinite number": first_row(live_share=float("inf")),
    "a number of many digits": first_row(batch=10**400),
    "a row of lists": first_row(what=["packed"], dtype=[]),
    "rows of numbers": json.dumps(dataclasses.asdict(TABLE) | {"rows": [1, 2]}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_named_table_is_an_error(damage, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(DAMAGES[damage])
    expected = "table.json is no latency table or a damaged one .* measure this device with"
    with pytest.raises(ValueError, match=expected) as found:
        find_table(path)
    message = str(found.value)
    assert len(message) <= 1000 and message.isprintable()


def test_bytes_that_are_no_text_are_a_damaged_table(tmp_path):
    (tmp_path / "table.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="damaged one"):
        find_table(tmp_path / "table.json")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cached_table_is_reported_and_the_bundled_one_decides(damage, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text(DAMAGES[damage])
    with pytest.warns(
        UserWarning, match="damaged one .* measure .* by the table that comes with the library"
    ):
        assert find_table() is bundled_table()


def test_a_cached_table_of_another_device_is_reported_and_ignored(cache):
    write_table(dataclasses.replace(TABLE, device="a lathe"), cache)
    with pytest.warns(UserWarning, match="measured on another device: 'a lathe'"):
        assert find_table() is bundled_table()


def test_a_cache_that_cannot_be_read_is_reported(cache):
    cache.mkdir(parents=True)  # a folder of that name
    with pytest.warns(UserWarning, match="Is a directory"):
        assert find_table() is bundled_table()


def test_without_a_home_there_is_no_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_table() is bundled_table()


def test_a_missing_named_table_is_an_error(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"config.inference.autotune_table is '.*none.json', which cannot be read .*--out",
    ):
        find_table(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [
        {"ms": 10**400},
        {"ms": float("inf")},
        {"batch": 10**400},
        {"what": ["packed"]},
        {"speedup": [1.0]},
        {"dtype": {}},
        {"ms": 0.0},
        {"ms": float("nan")},
        {"ms": "1"},
        {"ms": True},
        {"what": "masked"},
        {"what": None},
        {"batch": 0},
        {"batch": 1.5},
        {"length": "128"},
        {"dtype": 32},
        {"speedup": -1.0},
        {"live_share": None},
        {"num_layers": -6},
    ],
)
def test_wrong_rows_are_rejected(change):
    row = dataclasses.asdict(make_row("packed", 1.0))
    assert parse_row(row) == make_row("packed", 1.0)
    with pytest.raises(ValueError):
        parse_row(row | change)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            lambda row: row.what != "packed",
            "no rows of bucketed and packed on the same case with a pruner",
        ),
        (lambda row: row.speedup is not None, "on the same case with plain BERT"),
        (lambda row: row.what != "rung", "no rows of rungs"),
    ],
)
def test_a_table_that_cannot_choose_for_everything_is_rejected(keep, message):
    with pytest.raises(ValueError, match=message):
        check_complete(tuple(filter(keep, TABLE.rows)))


def test_a_measurement_that_is_there_twice_is_rejected():
    with pytest.raises(ValueError, match="two rows of the same measurement"):
        check_complete((*TABLE.rows, dataclasses.replace(TABLE.rows[0], ms=1.0)))


def test_a_classifier_rejects_a_foreign_table(tmp_path, tiny_classifier):
    write_table(dataclasses.replace(TABLE, device="a lathe"), tmp_path / "table.json")
    with pytest.raises(ValueError, match="another device: 'a lathe'"):
        Classifier.load(tiny_classifier, autotune_table=tmp_path / "table.json")
