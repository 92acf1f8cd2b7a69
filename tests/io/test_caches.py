"""Where compiled programs are kept, who may write there, and what is said where it cannot be."""

import os
import stat

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from adapler_jax.io import caches
from adapler_jax.io.caches import VARIABLE, remove_oldest, use_compilation_cache, user_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch, tmp_path):
    """jax without a cache, as a user's process starts, and a cache directory of the test's own."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.delenv(VARIABLE, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def refuse(text):
    raise AssertionError(text)


def test_the_default_folder_is_its_owners_alone(tmp_path):
    folder = use_compilation_cache(log=refuse)
    assert folder == user_cache("compiled") == tmp_path / "users" / "adapler_jax" / "compiled"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert jax.config.jax_compilation_cache_dir == str(folder)


def test_programs_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "MIN_COMPILE_S", 0.0)
    jax.block_until_ready(jnp.arange(7) * 2)  # jax notes that there is no cache
    use_compilation_cache(str(tmp_path / "mine"), log=refuse)
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
    assert use_compilation_cache(argument, log=refuse) is None
    assert jax.config.jax_compilation_cache_dir is None and not user_cache("compiled").exists()


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environment"))
    assert use_compilation_cache(str(tmp_path / "argument"), log=refuse) == tmp_path / "argument"
    assert not (tmp_path / "environment").exists()


def test_the_environment_moves_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environment"))
    assert use_compilation_cache(log=refuse) == tmp_path / "environment"


def test_a_folder_that_jax_has_already_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "users_own"))
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    told = []
    for where in ("", str(tmp_path / "users_own"), str(tmp_path / "ours"), "none"):
        assert use_compilation_cache(where, log=told.append) == tmp_path / "users_own"
    assert len(told) == 2 and all("users_own already" in line for line in told)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "users_own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == before


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.warns(UserWarning, match=f"others may write to .*open.*{VARIABLE}"):
        assert use_compilation_cache(str(tmp_path / "open")) is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    assert use_compilation_cache(str(tmp_path / "file" / "folder"), log=told.append) is None
    assert len(told) == 1 and "compiled programs are not kept" in told[0] and "file" in told[0]


def test_the_oldest_programs_go_first(tmp_path):
    for age, name in enumerate(["new-cache", "old-cache", "oldest-cache", "notes.txt"]):
        (tmp_path / name).write_bytes(b"0" * 100)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    remove_oldest(tmp_path, max_bytes=200)
    assert {path.name for path in tmp_path.iterdir()} == {"new-cache", "old-cache", "notes.txt"}
    remove_oldest(tmp_path, max_bytes=200)
    assert len(list(tmp_path.iterdir())) == 3
