"""Compiled programs are kept in a private folder of limited size, or a note says why not."""

import stat

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from adapler_jax.io import caches
from adapler_jax.io.caches import VARIABLE, use_compilation_cache
from adapler_jax.io.user_folders import user_cache

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch, tmp_path):
    """Start as a user's process: jax has no cache, and the cache directory is the test's own."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.delenv(VARIABLE, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def fail_on_note(text):
    raise AssertionError(text)


def test_the_default_folder_is_its_owners_alone(tmp_path):
    folder = use_compilation_cache(log=fail_on_note)
    assert folder == user_cache("compiled") == tmp_path / "users" / "adapler_jax" / "compiled"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert jax.config.jax_compilation_cache_dir == str(folder)


def test_programs_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "MIN_COMPILE_S", 0.0)
    jax.block_until_ready(jnp.arange(7) * 2)  # jax notes that there is no cache
    use_compilation_cache(str(tmp_path / "mine"), log=fail_on_note)
    hits = []
    listener = lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None  # noqa: E731
    jax.monitoring.register_event_listener(listener)
    try:
        for _ in range(2):
            jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) * 3)(jnp.ones(5, jnp.float32)))
            jax.clear_caches()
    finally:
        jax.monitoring.unregister_event_listener(listener)
    assert hits and list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(("argument", "variable"), [("none", ""), ("", "none")])
def test_none_keeps_nothing(argument, variable, monkeypatch):
    monkeypatch.setenv(VARIABLE, variable)
    assert use_compilation_cache(argument, log=fail_on_note) is None
    assert jax.config.jax_compilation_cache_dir is None and not user_cache("compiled").exists()


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environment"))
    assert (
        use_compilation_cache(str(tmp_path / "argument"), log=fail_on_note) == tmp_path / "argument"
    )
    assert not (tmp_path / "environment").exists()


def test_the_environment_moves_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environment"))
    assert use_compilation_cache(log=fail_on_note) == tmp_path / "environment"


def test_a_folder_that_jax_has_already_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "users_own"))
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    notes = []
    for where in ("", str(tmp_path / "users_own"), str(tmp_path / "ours"), "none"):
        assert use_compilation_cache(where, log=notes.append) == tmp_path / "users_own"
    assert len(notes) == 2 and all("users_own already" in line for line in notes)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "users_own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == before


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.warns(UserWarning, match=f"others may write to .*open.*{VARIABLE}"):
        assert use_compilation_cache(str(tmp_path / "open")) is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    notes = []
    assert use_compilation_cache(str(tmp_path / "file" / "folder"), log=notes.append) is None
    assert len(notes) == 1 and "compiled programs are not kept" in notes[0] and "file" in notes[0]


def compile_all(constants):
    """Compile a program for each constant, as large as the others."""
    for constant in constants:
        jax.block_until_ready(jax.jit(lambda x, c=constant: jnp.sin(x) * c)(jnp.ones(5)))
        jax.clear_caches()


def programs_of(folder):
    return {path.name for path in folder.glob("*-cache")}


def test_the_least_recently_used_programs_go_first(monkeypatch):
    monkeypatch.setattr(caches, "MIN_COMPILE_S", 0.0)
    folder = use_compilation_cache(log=fail_on_note)
    compile_all([2.0])
    first = programs_of(folder)
    size = sum((folder / name).stat().st_size for name in first)
    jax.config.update("jax_compilation_cache_max_size", 2 * size + size // 2)
    compilation_cache.reset_cache()
    compile_all([3.0, 2.0, 5.0])
    assert first < programs_of(folder)
    assert sum((folder / name).stat().st_size for name in programs_of(folder)) <= 2.5 * size


def test_programs_without_a_time_of_use_do_not_stop_the_cache(monkeypatch):
    monkeypatch.setattr(caches, "MIN_COMPILE_S", 0.0)
    folder = user_cache("compiled")
    folder.mkdir(mode=0o700, parents=True)
    (folder / "older-cache").write_bytes(b"0")
    (folder / "notes.txt").write_text("mine")
    assert use_compilation_cache(log=fail_on_note) == folder
    compile_all([2.0])
    assert programs_of(folder) and "older-cache" not in programs_of(folder)
    assert (folder / "notes.txt").exists()
    assert jax.config.jax_compilation_cache_max_size == caches.MAX_BYTES


def test_a_folder_of_the_users_choice_has_no_limit(tmp_path):
    assert use_compilation_cache(str(tmp_path / "mine"), log=fail_on_note) == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_max_size == -1
