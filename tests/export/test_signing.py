"""The key that signs exported programs, and the custom calls that they may make."""

import os
import stat

import pytest

from adapler_jax.export import signing
from adapler_jax.export.signing import (
    NO_TAG,
    check_custom_calls,
    custom_calls,
    make_key,
    may_run_programs,
    read_key,
)


@pytest.fixture(autouse=True)
def _own_data(monkeypatch, tmp_path):
    """A user without a key."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(signing.VARIABLE, raising=False)


def test_the_key_is_made_once_and_only_its_owner_may_read_it():
    key = make_key()
    assert make_key() == read_key() == key and len(key) == 32
    assert stat.S_IMODE(signing.key_path().stat().st_mode) == 0o600
    assert [path.name for path in signing.key_path().parent.iterdir()] == ["programs.key"]


def test_of_two_first_exports_one_key_counts(monkeypatch):
    other = b"o" * 32

    def link(partial, path):
        path.write_bytes(other)
        path.chmod(0o600)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link)
    assert make_key() == other


def test_a_disk_without_links_holds_a_key(monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError))
    assert make_key() == read_key()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no users of files")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_or_write_is_rejected(mode):
    make_key()
    signing.key_path().chmod(mode)
    with pytest.raises(
        ValueError, match=r"others may read the key .*programs.key; remove it and export again"
    ):
        make_key()


def test_a_damaged_or_missing_key_is_named():
    with pytest.raises(
        ValueError, match=r"this user has exported no program: .*programs.key cannot be read"
    ):
        read_key()
    make_key()
    signing.key_path().write_bytes(b"short")
    with pytest.raises(ValueError, match=r"the key .*programs.key is damaged"):
        read_key()


def test_every_changed_byte_of_a_signed_file_is_noticed(tmp_path):
    path, content = tmp_path / "program", b"content of a program"
    path.write_bytes(content + NO_TAG)
    signing.sign(path, make_key())
    signed = path.read_bytes()
    assert (
        signing.read_signed(path) == signed
        and signed.startswith(content)
        and len(signed) == len(content) + 64
    )
    for place in range(len(signed)):
        path.write_bytes(signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :])
        with pytest.raises(ValueError, match="not exported by this user, or is damaged"):
            signing.read_signed(path)
    for end in (0, 10, len(signed) - 1):
        path.write_bytes(signed[:end])
        with pytest.raises(ValueError, match="not exported by this user, or is damaged"):
            signing.read_signed(path)


def test_a_file_of_any_size_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "program").write_bytes(b"12345")
    monkeypatch.setattr(signing, "MAX_FILE_BYTES", 4)
    with pytest.raises(ValueError, match="it has more than"):
        signing.read_signed(tmp_path / "program")


CALLS = """
#loc1 = loc("jit(custom_call)/stablehlo.custom_call")
%1 = stablehlo.custom_call @shape_assertion(%0) {has_side_effect = true}
%2 = stablehlo.custom_call @"a name"(%1)
%3 = stablehlo.custom_call @xla_python_cpu_callback(%2)
"""


def test_custom_calls_are_found_by_name_and_those_of_others_rejected():
    assert custom_calls(CALLS) == {"shape_assertion", "a name", "xla_python_cpu_callback"}
    with pytest.raises(
        ValueError,
        match=r"it calls a name, xla_python_cpu_callback; only shape_assertion, .* may be",
    ):
        check_custom_calls(custom_calls(CALLS))
    check_custom_calls(["shape_assertion"])


def test_a_custom_call_in_another_spelling_is_not_missed():
    with pytest.raises(ValueError, match="custom calls without a readable name"):
        custom_calls('"stablehlo.custom_call"(%0) <{call_target_name = "evil"}>')


@pytest.mark.parametrize(("value", "wanted"), [("", False), ("0", False), ("1", True)])
def test_the_variable_decides_where_the_caller_does_not(monkeypatch, value, wanted):
    monkeypatch.setenv(signing.VARIABLE, value)
    assert (
        may_run_programs(None) is wanted and may_run_programs(True) and not may_run_programs(False)
    )


def test_another_value_of_the_variable_is_rejected(monkeypatch):
    monkeypatch.setenv(signing.VARIABLE, "yes")
    with pytest.raises(ValueError, match="ADAPLER_PROGRAMS is 'yes'; expected 1, or 0"):
        may_run_programs(None)
