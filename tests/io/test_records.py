import json

import numpy as np

from adapler_jax.io.records import (
    format_cell,
    print_table,
    results_record,
    write_json,
    write_results,
)

ROWS = [
    {"method": "dense", "wall_ms": 12.34567},
    {"method": "adapler", "wall_ms": 4.0, "kept_tokens": [10.04, 2.5]},
]


def test_cells_by_hand():
    cells = [format_cell(value) for value in (None, 1.23456, 7, "a", [1.25, 3], (2.0,))]
    assert cells == ["", "1.235", "7", "a", "1.2 3", "2.0"]


def test_a_table_shows_every_key_of_every_row(capsys):
    print_table(ROWS, title="speed")
    text = capsys.readouterr().out
    for word in (
        "speed",
        "method",
        "wall_ms",
        "kept_tokens",
        "dense",
        "adapler",
        "12.35",
        "10.0 2.5",
    ):
        assert word in text


def test_a_table_can_be_asked_for_some_columns(capsys):
    print_table(ROWS, columns=["method"])
    assert "wall_ms" not in capsys.readouterr().out


def test_a_record_names_what_decides_its_numbers():
    record = results_record(ROWS, command="python -m benchmarks.x")
    assert list(record) == ["command", "commit", "device", "versions", "date", "rows"]
    assert {"python", "jax", "numpy"} <= set(record["versions"])
    assert record["device"] and record["date"].endswith("+00:00")


def test_results_come_back_from_the_file(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_results(ROWS, command="c", path=path)
    assert json.loads(path.read_text())["rows"] == ROWS
    write_json(path, {"rows": []})
    assert json.loads(path.read_text()) == {"rows": []}
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]


def test_names_and_cells_neither_steer_the_terminal_nor_are_markup(capsys):
    evil = "\x1b[2J\x07[bold]x[/nothing]\u202e\x9b"
    print_table([{evil: evil, "n": "1.50x"}], title=f"{evil}\nsecond line")
    text = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
    assert text.count("[bold]x[/nothing]") == 3 and "second line" in text


def test_numbers_stand_to_the_right(capsys):
    print_table([{"model": "a", "ms of a long name": "1.50", "x": "1,234", "words": "3 and 4"}])
    row = capsys.readouterr().out.splitlines()[-2]
    assert "│ a     │              1.50 │ 1,234 │ 3 and 4 │" == row.strip()


def test_json_never_holds_nan(tmp_path):
    rows = [
        {
            "score": float("nan"),
            "scores": [np.float32("inf"), np.arange(2)],
            "ok": (1.5, None, True),
        }
    ]
    write_json(tmp_path / "x.json", results_record(rows, command="c"))
    text = (tmp_path / "x.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["rows"] == [
        {"score": None, "scores": [None, [0, 1]], "ok": [1.5, None, True]}
    ]
