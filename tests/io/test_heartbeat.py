"""Long work shows a spinner on a terminal, and is not silent elsewhere."""

import itertools
import threading

import pytest

from adapler_jax.io import heartbeat
from adapler_jax.io.heartbeat import Heartbeat, watch
from adapler_jax.serving.pipeline import progress_bar
from adapler_jax.training.metrics_log import MetricsLog, track


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="impatient")
def _impatient(monkeypatch):
    """Seconds of silence are milliseconds."""
    monkeypatch.setattr(heartbeat, "SILENCE_S", 0.02)
    monkeypatch.setattr(heartbeat, "CHECK_S", 0.005)


def test_a_line_is_printed_after_each_minute_of_silence(clock):
    lines = []
    beat = Heartbeat(lambda: "finetune: step 3 of 9", log=lines.append, clock=clock)
    times = []
    for second in range(0, 601):
        clock.now = float(second)
        before = len(lines)
        beat.check()
        times += [second] * (len(lines) - before)
    assert times[0] <= 60 and all(b - a <= 60 for a, b in itertools.pairwise(times))
    assert len(times) == 10 and lines[1] == "finetune: step 3 of 9, after 2 min"


def test_another_line_counts_as_a_sign_of_life(clock):
    lines = []
    beat = Heartbeat(lambda: "x", log=lines.append, clock=clock)
    for second in range(0, 300, 30):
        clock.now = float(second)
        beat.touch()
        beat.check()
    assert lines == []


def test_the_silence_and_the_check_are_less_than_a_minute():
    assert heartbeat.SILENCE_S + heartbeat.CHECK_S < 60


def wait_for(lines, text):
    """Return once a line holds the text; fail after ten seconds."""
    limit = threading.Event()
    for _ in range(1000):
        if any(text in line for line in lines):
            return
        limit.wait(0.01)
    raise AssertionError(f"no {text!r} in {lines}")


def test_a_block_that_does_not_return_prints_lines(impatient):
    lines = []
    with Heartbeat(lambda: "compiling", log=lines.append):
        wait_for(lines, "compiling, after 0 min")
    threads = {thread.name for thread in threading.enumerate()}
    assert "heartbeat" not in threads


@pytest.mark.parametrize("has_bar", [False, True])
def test_a_terminal_has_a_spinner_unless_a_bar_is_there(has_bar, impatient, monkeypatch, capsys):
    lines = []
    monkeypatch.setattr(heartbeat, "is_terminal", lambda: True)
    with Heartbeat(lambda: "compiling", log=lines.append, has_bar=has_bar):
        threading.Event().wait(0.1)
    assert lines == []
    assert ("compiling" in capsys.readouterr().err) is not has_bar


def test_a_loop_says_how_many_of_its_items_are_done(impatient):
    lines = []
    items = iter(watch("abc", "scores", total=3, log=lines.append))
    assert [next(items), next(items)] == ["a", "b"]
    wait_for(lines, "scores: 1 of 3")
    assert list(items) == ["c"]


def test_a_tracked_loop_prints_off_a_terminal(impatient, capsys):
    for item in track([1, 2], "saliency"):
        if item == 2:
            threading.Event().wait(0.1)
    assert "saliency: 1 of 2, after 0 min" in capsys.readouterr().err


def test_a_phase_says_its_step_its_loss_and_its_activity(impatient, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(MetricsLog, "log", lambda self, line: lines.append(line))
    with MetricsLog(tmp_path, start_step=0, num_steps=90, label="finetune") as metrics_log:
        wait_for(lines, "finetune: step 0 of 90, after")
        metrics_log.advance(30, {"loss": 0.5})
        wait_for(lines, "finetune: step 30 of 90, loss 0.500, after")
        metrics_log.note("validation")
        wait_for(lines, "loss 0.500, validation, after")


def test_predictions_for_a_file_say_how_far_they_are(impatient, capsys):
    with progress_bar(True) as advance:
        advance(2048, 0.5)
        threading.Event().wait(0.1)
    assert "predict: 2,048 rows, 50% of the input, after 0 min" in capsys.readouterr().err
