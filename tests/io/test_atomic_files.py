"""Files appear whole or not at all, and a byte that changed later is found."""

import os

import pytest

from adapler_jax.io import atomic_files
from adapler_jax.io.atomic_files import (
    check_directory,
    check_file,
    checksum_path,
    damaged_files,
    remove_file,
    replace_text,
    replacing_file,
    write_checksums,
)

ADVICE = "remove it and train again"


class Killed(BaseException):
    """Simulate a kill."""


def flip(path, offset=0):
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_found_and_the_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "run.json"
    replace_text(path, '{"a": 1}', checksum=True)
    check_file(path, ADVICE)
    flip(path, 6)
    message = r"run.json is damaged .*; remove it and train again; .* remove run.json.sha256 alone"
    with pytest.raises(ValueError, match=message):
        check_file(path, ADVICE)
    checksum_path(path).unlink()
    check_file(path, ADVICE)  # release 0.1 wrote no checksums


def test_a_damaged_checksum_is_found_too(tmp_path):
    path = tmp_path / "run.json"
    replace_text(path, "{}", checksum=True)
    flip(checksum_path(path), 3)
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        check_file(path, ADVICE)


def test_the_checksum_is_one_of_the_usual_tool(tmp_path):
    """printf abc | sha256sum."""
    replace_text(tmp_path / "a b", "abc", checksum=True)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (tmp_path / "a b.sha256").read_text() == f"{digest}  a b\n"


@pytest.mark.parametrize("kill", range(12))
def test_a_kill_at_any_call_of_the_system_leaves_the_old_content_or_the_new(
    tmp_path, monkeypatch, kill
):
    path, calls = tmp_path / "run.json", []
    replace_text(path, "first", checksum=True)
    replace_text(path, "second", checksum=True)

    def killing(function):
        def call(*args, **kwargs):
            calls.append(function)
            if len(calls) == kill + 1:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "replace", "fsync", "unlink"):
            patch.setattr(os, name, killing(getattr(os, name)))
        try:
            replace_text(path, "third", checksum=True)
        except Killed:
            pass
    assert path.read_text() in ("second", "third")
    check_file(path, ADVICE)
    replace_text(path, "fourth", checksum=True)
    check_file(path, ADVICE)
    assert path.read_text() == "fourth"


def test_contents_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(atomic_files.os, "fsync", lambda handle: order.append("fsync"))
    rename = os.replace

    def replace(source, target):
        order.append("rename")
        rename(source, target)

    monkeypatch.setattr(atomic_files.os, "replace", replace)
    with replacing_file(tmp_path / "a") as partial:
        partial.write_text("a")
    assert order == ["fsync", "rename", "fsync"]  # the content, then the name


def test_an_error_leaves_the_file_as_it_was_and_no_other(tmp_path):
    replace_text(tmp_path / "a", "old", checksum=True)
    with pytest.raises(ValueError), replacing_file(tmp_path / "a", checksum=True) as partial:
        partial.write_text("new")
        assert atomic_files.unfinished == {partial}
        raise ValueError
    check_file(tmp_path / "a", ADVICE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.sha256"]
    assert not atomic_files.unfinished
    remove_file(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_files_of_a_directory_are_found_damaged_or_missing_and_new_ones_do_not_count(tmp_path):
    model = tmp_path / "model"
    (model / "part").mkdir(parents=True)
    for name in ("config.json", "part/weights"):
        (model / name).write_text(name)
    assert damaged_files(model) == []
    write_checksums(model)
    (model / "notes.txt").write_text("mine")
    check_directory(model, ADVICE)
    flip(model / "part" / "weights", 5)
    with pytest.raises(ValueError, match=r"part/weights is damaged .*; remove it and train again"):
        check_directory(model, ADVICE)
    with pytest.raises(
        ValueError, match=r"again; if you changed it yourself, remove \S*model.sha256 alone"
    ):
        check_directory(model, ADVICE)
    check_directory(model, ADVICE, skip=["part/*"])
    (model / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json and 1 more is damaged"):
        check_directory(model, ADVICE)


def test_files_that_may_change_have_no_checksum_and_others_keep_theirs(tmp_path):
    for name in ("README.md", "config.json"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text(name)
    write_checksums(tmp_path / "model", skip=["README.md"])
    assert "README.md" not in (tmp_path / "model.sha256").read_text()
    (tmp_path / "model" / "README.md").unlink()
    check_directory(tmp_path / "model", ADVICE)
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        check_directory(tmp_path / "model", ADVICE, skip=["README.md"])
