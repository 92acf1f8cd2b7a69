"""A phase is closed, and opened again for more epochs, whole or not at all."""

import json
from types import SimpleNamespace

import pytest

from adapler_jax.training import phases
from adapler_jax.training.growth import continued_epochs, finished_epochs, grow
from adapler_jax.training.metrics_log import MetricsLog
from adapler_jax.training.phases import is_complete, mark_complete, read_done

NAMES = ("finetune", "saliency", "adapler")
ORPHANS = (".partial", "finetune/done.json.sha256")  # which nothing reads


@pytest.fixture(name="finished")
def _finished(tmp_path, monkeypatch):
    """Return a function that makes finished phases in a new folder."""
    monkeypatch.setattr(phases, "commit_of_tree", lambda: "0")

    def make(number):
        for name in (*NAMES, "adapt-2x"):
            directory = tmp_path / str(number) / name
            (directory / "last" / "6").mkdir(parents=True)
            (directory / "last" / "6" / "state").write_text("state")
            mark_complete(directory, {"validation": {"score": 0.5}, "num_epochs": 2})
        return tmp_path / str(number)

    return make


def open_again(workdir):
    """Add a third epoch to the first phase."""
    config = {
        "method": "adapler",
        "finetune": SimpleNamespace(num_epochs=3),
        "adapler": SimpleNamespace(num_epochs=2),
    }
    grow(workdir, config, names=NAMES, log=lambda _: None)


def content(workdir):
    """All files, with what they hold."""
    return {
        path.relative_to(workdir).as_posix(): path.read_text()
        for path in workdir.rglob("*")
        if path.is_file()
    }


@pytest.mark.long
def test_a_kill_while_a_phase_is_opened_again_changes_nothing(finished, killed_at_call):
    undisturbed = finished("undisturbed")
    open_again(undisturbed)
    assert continued_epochs(undisturbed / "finetune") == 2 and not is_complete(
        undisturbed / "finetune"
    )
    assert {path.name for path in undisturbed.iterdir()} == {
        "finetune",
        "saliency.outdated",
        "adapler.outdated",
        "adapt-2x.outdated",
    }
    num_calls = killed_at_call(0, lambda: open_again(finished("counted")))
    assert num_calls > 10
    for kill in range(1, num_calls + 1):
        workdir = finished(kill)
        killed_at_call(kill, lambda: open_again(workdir))
        open_again(workdir)
        left = {name: text for name, text in content(workdir).items() if not name.endswith(ORPHANS)}
        assert left == content(undisturbed), kill


def test_a_kill_while_a_phase_is_closed_leaves_it_open_or_closed(finished, killed_at_call):
    workdir = finished("once")
    open_again(workdir)
    directory = workdir / "finetune"

    def close():
        (directory / "last" / "9").mkdir(parents=True, exist_ok=True)
        mark_complete(directory, {"validation": {"score": 0.6}, "num_epochs": 3})

    num_calls = killed_at_call(0, close)
    for kill in range(1, num_calls + 1):
        (directory / "done.json").unlink()
        killed_at_call(kill, close)
        if is_complete(directory):
            assert read_done(directory)["num_epochs"] == 3
        close()
        assert finished_epochs(directory) == 3 and not (directory / "last").exists()
        assert continued_epochs(directory) == 0


def test_the_epochs_of_an_earlier_release_are_those_of_its_journal(tmp_path):
    with MetricsLog(tmp_path, start_step=0, num_steps=4, label="finetune") as journal:
        journal.write(2, "validation", {"epoch": 1, "score": 0.5})
        journal.write(4, "validation", {"epoch": 2, "score": 0.5})
    (tmp_path / "done.json").write_text(json.dumps({"validation": {"score": 0.5}}))
    assert finished_epochs(tmp_path) == 2
