"""Checkpoints inside of an epoch, by minutes: when they are due, and that numbers do not change."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler_jax.training import pace as module
from adapler_jax.training import phases
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.pace import SavePace
from adapler_jax.training.run import check_config, run_all
from adapler_jax.training.workdir import CONFIG_FILE, check_workdir_config
from tests.training.runs import assert_same_models, silent


class Clock:
    """A clock that moves by `step_s` at each reading, or when a test sets it."""

    def __init__(self, step_s=0.0):
        self.now, self.step_s = 0.0, step_s

    def __call__(self):
        self.now += self.step_s
        return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "clock", clock)
    return clock


def test_a_save_is_due_so_many_minutes_after_the_last_one(clock):
    pace = SavePace(5.0)
    clock.now = 299.0
    assert not pace.is_due()
    clock.now = 300.0
    assert pace.is_due()
    with pace.saving():
        clock.now += 2.0
    assert not pace.is_due()
    clock.now += 300.0
    assert pace.is_due()


def test_no_minutes_are_never(clock):
    pace = SavePace(0.0)
    clock.now = 1e9
    assert not pace.is_due()


@given(
    minutes=st.floats(0.01, 60.0),
    save_s=st.lists(st.floats(0.1, 600.0), min_size=1, max_size=6),
    step_s=st.floats(1.0, 200.0),
)
def test_saving_takes_at_most_three_percent_of_the_time(minutes, save_s, step_s):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "clock", clock)
        pace = SavePace(minutes)
        for seconds in save_s:
            while not pace.is_due():
                clock.now += step_s
            with pace.saving():
                clock.now += seconds
            end = clock.now
            while not pace.is_due():
                clock.now += step_s
            assert seconds <= 0.03 * (clock.now - end + seconds) * (1 + 1e-9)


@pytest.mark.long
def test_a_killed_run_continues_inside_of_its_epoch_with_the_same_numbers(
    make_config, workdirs, run_killed_at, monkeypatch
):
    undisturbed, torn = workdirs(), workdirs()
    never = make_config(finetune__num_epochs=2, finetune__checkpoint_every_minutes=0.0)
    run_all(never, undisturbed, log=silent, last_phase="finetune")
    config = make_config(finetune__num_epochs=2)
    assert config.finetune.checkpoint_every_minutes == 5.0
    monkeypatch.setattr(module, "clock", Clock(step_s=200.0))
    run_killed_at(config, torn, ("finetune",), ((3, 0),))
    (folder,) = (torn / "finetune" / "last").iterdir()
    steps_per_epoch = read_metrics_log(undisturbed / "finetune")[-1]["step"] // 2
    assert 0 < int(folder.name) < steps_per_epoch
    lines = []
    started = phases.train_batches
    monkeypatch.setattr(
        phases,
        "train_batches",
        lambda *args, **kwargs: lines.append(kwargs["start_step"]) or started(*args, **kwargs),
    )
    run_all(config, torn, log=silent, last_phase="finetune")
    assert lines == [int(folder.name)]
    assert phases.read_done(torn / "finetune") == phases.read_done(undisturbed / "finetune")
    assert read_metrics_log(torn / "finetune") == read_metrics_log(undisturbed / "finetune")
    assert_same_models(torn, undisturbed, "finetune")


def test_a_slow_save_is_not_repeated_soon(make_config, workdirs, monkeypatch):
    clock, saved = Clock(step_s=1.0), []
    monkeypatch.setattr(module, "clock", clock)
    save_last = Checkpoints.save_last

    def slow(self, state):
        saved.append(int(state.step))
        clock.now += 400.0
        save_last(self, state)

    monkeypatch.setattr(Checkpoints, "save_last", slow)
    config = make_config(finetune__num_epochs=1, finetune__checkpoint_every_minutes=0.03)
    run_all(config, workdirs(), log=silent, last_phase="finetune")
    assert len(saved) == 2 and saved[0] <= 2  # the second is the end of the epoch


def test_a_run_without_the_field_continues_and_the_minutes_may_change(make_config, tmp_path):
    fields = json.loads(json.dumps(make_config().to_dict()))
    for section in ("finetune", "adapler"):
        del fields[section]["checkpoint_every_minutes"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(fields))
    check_workdir_config(tmp_path, make_config().to_dict())
    changed = make_config(adapler__checkpoint_every_minutes=1.0).to_dict()
    (tmp_path / CONFIG_FILE).write_text(json.dumps(changed))
    check_workdir_config(tmp_path, make_config().to_dict())


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_minutes_below_zero_end_in_one_line(make_config, value):
    told = r"config.adapler.checkpoint_every_minutes is .*; expected 0.0 or more"
    with pytest.raises(ValueError, match=told):
        check_config(make_config(adapler__checkpoint_every_minutes=value))
