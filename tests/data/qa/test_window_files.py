"""Windows and questions on disk come back as they were, or not at all."""

import concurrent.futures
import dataclasses
import json
import threading

import numpy as np
import pytest

from adapler_jax.data.qa import splits as reading_splits
from adapler_jax.data.qa import window_files
from adapler_jax.data.qa import windows as windows_module
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.splits import load_span_split
from adapler_jax.data.qa.window_files import (
    StoredQuestions,
    open_windows,
    store_questions,
    store_windows,
    tee_questions,
    windows_key,
)
from adapler_jax.data.qa.windows import iter_windows, join_windows

SETTINGS = {"max_length": 8, "doc_stride": 2, "max_question_tokens": 2, "max_answers": 2}
QUESTIONS = [
    Question(
        "0", "a good film", "film . not bad film . a film", ("not bad", "bad"), ((7, 14), (11, 14))
    ),
    Question("1", "", "", (), ()),
    Question("é\n", "日 🎬", 'a "quoted"\u2028 film\ud83d', ("film",), ((12, 16),)),
    Question("3", "bad", "films " * 20, (), ()),
]


@pytest.fixture(name="core")
def _core(tokenizer):
    return tokenizer.backend_tokenizer


def arrays(windows):
    """All arrays of windows."""
    for field in dataclasses.fields(windows):
        value = getattr(windows, field.name)
        yield from (value.values, value.offsets) if hasattr(value, "offsets") else (value,)


def check_same(found, expected):
    for first, second in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.dtype == second.dtype


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_windows_come_back_from_disk_as_they_were(core, tmp_path, monkeypatch, chunk):
    expected = join_windows(iter_windows(QUESTIONS, core, **SETTINGS))
    monkeypatch.setattr(windows_module, "_CHUNK_QUESTIONS", chunk)
    stored = store_windows(iter_windows(QUESTIONS, core, **SETTINGS), tmp_path / "new" / "windows")
    check_same(stored, expected)
    check_same(open_windows(tmp_path / "new" / "windows"), expected)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["windows"]
    assert isinstance(stored.tokens.values.base, np.memmap) and stored.tokens[0].base is not None


def test_windows_without_a_token_of_text_can_be_stored(core, tmp_path):
    chunks = list(iter_windows(QUESTIONS[1:2], core, **SETTINGS))
    check_same(store_windows(chunks, tmp_path / "windows"), chunks[0])


def test_questions_come_back_from_disk_as_they_were(tmp_path):
    stored = store_questions(iter(QUESTIONS), tmp_path / "questions")
    assert list(stored) == QUESTIONS and len(stored) == 4
    assert stored[2] == stored[-2] == stored[np.int32(2)] == QUESTIONS[2]
    assert QUESTIONS[3] in StoredQuestions(tmp_path / "questions")
    for number in (4, -5):
        with pytest.raises(IndexError):
            stored[number]


def test_no_questions_can_be_stored_but_no_windows(tmp_path):
    assert list(store_questions([], tmp_path / "questions")) == []
    with pytest.raises(ValueError, match="no windows to store; give at least one question"):
        store_windows([], tmp_path / "windows")
    assert [path.name for path in tmp_path.iterdir()] == ["questions"]


def test_one_pass_feeds_both_stores(core, tmp_path):
    questions = tee_questions(iter(QUESTIONS), tmp_path / "questions")
    windows = store_windows(iter_windows(questions, core, **SETTINGS), tmp_path / "windows")
    stored = StoredQuestions(tmp_path / "questions")
    assert [stored[number] for number in np.unique(windows.question)] == QUESTIONS


def test_a_stream_that_fails_or_stops_leaves_nothing_and_what_was_there_stays(core, tmp_path):
    def broken():
        yield QUESTIONS[0]
        raise ValueError("row 2 is bad")

    store_questions(QUESTIONS[:1], tmp_path / "questions")
    questions = tee_questions(broken(), tmp_path / "questions")
    with pytest.raises(ValueError, match="row 2 is bad"):
        store_windows(iter_windows(questions, core, **SETTINGS), tmp_path / "windows")
    stopped = tee_questions(QUESTIONS, tmp_path / "questions")
    next(stopped)
    stopped.close()
    assert [path.name for path in tmp_path.iterdir()] == ["questions"]
    assert list(StoredQuestions(tmp_path / "questions")) == QUESTIONS[:1]


def test_a_folder_is_replaced_only_when_the_new_one_is_complete(core, tmp_path):
    first = store_windows(iter_windows(QUESTIONS, core, **SETTINGS), tmp_path / "windows")
    kept = [values.copy() for values in arrays(first)]
    second = store_windows(iter_windows(QUESTIONS[:1], core, **SETTINGS), tmp_path / "windows")
    assert len(second) < len(first)
    for before, now in zip(kept, arrays(first)):  # open maps stay what they were
        np.testing.assert_array_equal(before, now)


def test_of_two_that_prepare_the_same_windows_one_writes_and_the_other_waits(core, tmp_path):
    both, calls = threading.Barrier(2, timeout=60), []

    def stream():
        calls.append(threading.get_ident())
        if len(calls) <= 2:
            both.wait()  # both look for the windows before either writes them
        return iter(QUESTIONS)

    def load():
        return load_span_split(stream, core, cache_dir=tmp_path, **SETTINGS)

    (tmp_path / f"windows-{windows_key(QUESTIONS, core, **SETTINGS)}" / "questions9.partial").mkdir(
        parents=True
    )
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = [future.result() for future in [pool.submit(load), pool.submit(load)]]
    assert len(calls) == 3 and list(first.questions) == list(second.questions) == QUESTIONS
    check_same(first.windows, second.windows)
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "questions", "windows"]


def test_files_of_others_are_never_deleted(core, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(
        ValueError, match=r"holds 'thesis.txt', which would be lost; give an own folder"
    ):
        store_windows(iter_windows(QUESTIONS, core, **SETTINGS), tmp_path)
    with pytest.raises(ValueError, match=r"holds 'thesis.txt'"):
        store_questions(QUESTIONS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "damage", ["cut", "gone", "flipped", "no marker", "bad marker", "old format"]
)
def test_incomplete_folders_are_rejected_and_can_be_stored_again(core, tmp_path, damage):
    store_windows(iter_windows(QUESTIONS, core, **SETTINGS), tmp_path / "windows")
    store_questions(QUESTIONS, tmp_path / "questions")
    for folder, name in (("windows", "tokens.bin"), ("questions", "questions.jsonl")):
        file, marker = tmp_path / folder / name, tmp_path / folder / window_files._MARKER
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-4])
        elif damage == "gone":
            file.unlink()
        elif damage == "flipped":
            file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
        elif damage == "no marker":
            marker.unlink()
        else:
            old = json.dumps(json.loads(marker.read_text()) | {"format": 0})
            marker.write_text("{" if damage == "bad marker" else old)
    with pytest.raises(ValueError, match="windows' holds no complete windows; store them again"):
        open_windows(tmp_path / "windows")
    with pytest.raises(
        ValueError, match="questions' holds no complete questions; store them again"
    ):
        StoredQuestions(tmp_path / "questions")
    assert len(store_windows(iter_windows(QUESTIONS, core, **SETTINGS), tmp_path / "windows"))
    assert list(store_questions(QUESTIONS, tmp_path / "questions")) == QUESTIONS


def test_a_folder_that_cannot_be_written_is_warned_about_and_not_needed(
    core, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    expected = join_windows(iter_windows(QUESTIONS, core, **SETTINGS))
    monkeypatch.setattr(reading_splits, "store_windows", refuse)
    with pytest.warns(
        UserWarning, match="windows are not kept .*Read-only file system.*config.data.cache_dir"
    ):
        split = load_span_split(lambda: iter(QUESTIONS), core, cache_dir=tmp_path, **SETTINGS)
    check_same(split.windows, expected)


def test_missing_folders_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="holds no complete windows"):
        open_windows(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no complete questions"):
        StoredQuestions(tmp_path / "gone")


def test_a_key_tells_questions_tokenizer_and_settings_apart(core):
    key = windows_key(QUESTIONS, core, **SETTINGS)
    core.enable_truncation(5)
    assert (
        windows_key(iter(QUESTIONS), core, **dict(reversed(SETTINGS.items()))) == key
        and len(key) == 32
    )
    others = [
        dataclasses.replace(QUESTIONS[0], spans=()),
        dataclasses.replace(QUESTIONS[0], id="x"),
    ]
    keys = {windows_key([other, *QUESTIONS[1:]], core, **SETTINGS) for other in others}
    keys |= {
        windows_key(QUESTIONS[:3], core, **SETTINGS),
        windows_key(QUESTIONS, core, **SETTINGS | {"doc_stride": 3}),
    }
    core.add_tokens(["new"])
    assert len(keys | {key, windows_key(QUESTIONS, core, **SETTINGS)}) == 6
