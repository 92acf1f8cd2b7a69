"""Directories are compared by the files that count."""

import pytest

from adapler_jax.io.atomic_directories import have_equal_files

NAMES = ("config.json", "model.safetensors", "own.safetensors")


@pytest.fixture(name="pair")
def _pair(tmp_path):
    """Two directories with equal files, of which one has a further file."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(bytes(range(256)))
    (tmp_path / "one" / "README.md").write_text("mine")
    return tmp_path / "one", tmp_path / "other"


def test_equal_and_absent_files_are_equal_and_others_do_not_count(pair):
    assert have_equal_files(*pair, NAMES)


def test_one_byte_makes_a_difference(pair):
    content = bytearray(range(256))
    content[100] ^= 1
    (pair[1] / "model.safetensors").write_bytes(content)
    assert not have_equal_files(*pair, NAMES)


@pytest.mark.parametrize("place", [0, 1])
def test_a_file_that_one_of_them_lacks_makes_a_difference(pair, place):
    (pair[place] / "own.safetensors").write_bytes(b"")
    assert not have_equal_files(*pair, NAMES)


def test_a_directory_that_is_not_there_has_no_equal_files(pair, tmp_path):
    assert not have_equal_files(pair[0], tmp_path / "absent", NAMES)
