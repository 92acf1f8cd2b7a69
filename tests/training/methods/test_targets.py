"""Runs with target speedups of the methods that had one coefficient before."""

import shutil

import numpy as np
import pytest

from adapler_jax.training import phases
from adapler_jax.training.finished import finished_phases, load_fastest, unreached_speedups
from adapler_jax.training.methods.powerbert import raise_rank_rate
from adapler_jax.training.run import check_config, describe, phase_list, run_all
from adapler_jax.weights.save import load_model
from tests.training.runs import RUNS, assert_same_models, silent

# Tiny texts have steps of several percent, so the test's limit is above the 5% of real texts.
TARGETS = {"powerbert": 1.5, "trbert": 1.5, "ltp": 1.5}
FIRST_PHASES = {"powerbert": "search", "trbert": "policy", "ltp": "soft"}


def config_of(make_config, method, targets, **changes):
    run = RUNS[method]
    changes = run.changes | {f"{method}__target_speedups": targets} | changes
    return make_config(module=run.module, **changes)


@pytest.mark.parametrize("method", TARGETS)
def test_targets_take_the_place_of_the_final_phase(make_config, method):
    names = [phase.name for phase in phase_list(config_of(make_config, method, (3.0, 1.5)))]
    assert names == [*RUNS[method].phases[:-1], f"{method}-1.5x", f"{method}-3x"]


# A kill of TR-BERT is tested below; its phase is LTP's.
@pytest.mark.long
@pytest.mark.parametrize("method", ["powerbert", "ltp"])
def test_a_finished_run_gets_targets_and_one_out_of_reach(make_config, copied_run, method):
    workdir, lines = copied_run(method), []
    config = config_of(make_config, method, (TARGETS[method], 99.0))
    run_all(config, workdir, log=lines.append)
    name = f"{method}-{TARGETS[method]:g}x"
    done = phases.read_done(workdir / name)
    found = done["validation"]["flops_speedup"]
    assert found == pytest.approx(TARGETS[method], rel=0.15)
    assert list(finished_phases(workdir)) == ["dense", method, name]
    assert load_fastest(workdir)[0] in (method, name)
    assert not (workdir / f"{method}-99x" / "model").exists()
    assert unreached_speedups(workdir)[0].startswith(f"{method}-99x is left out")
    (told,) = (line for line in lines if line.startswith(f"{method}-99x: 99x is out of reach"))
    assert "No model is saved; ask for less" in told and "adapler" not in told
    assert any(line.startswith(f"{name}: brought to 1.5x: validation score") for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("method", ["powerbert", "trbert"])
def test_a_kill_in_a_targeted_phase_changes_no_number(
    make_config, copied_run, run_killed_at, method
):
    workdir = copied_run(method)
    torn = workdir.parent / "torn"
    shutil.copytree(workdir, torn)
    config = config_of(make_config, method, (1.5,))
    run_all(config, workdir, log=silent)
    name = f"{method}-1.5x"
    names = (*RUNS[method].phases[:-1], name)
    run_killed_at(config, torn, names, ((6, len(names) - 1),))
    run_all(config, torn, log=silent)
    assert phases.read_done(torn / name) == phases.read_done(workdir / name)
    assert_same_models(torn, workdir, name)


@pytest.mark.long
def test_counts_of_a_target_come_from_the_search(make_config, copied_run):
    workdir = copied_run("powerbert")
    run_all(config_of(make_config, "powerbert", (1.5,)), workdir, log=silent)
    done = phases.read_done(workdir / "powerbert-1.5x")
    assert 1.5 <= done["training_speedup"] <= 1.5 * 1.1  # texts of 8 tokens: a count is 10%
    assert "x on the lengths of the training texts, tokens in each layer" in describe(done)
    assert done["retention"] == sorted(done["retention"], reverse=True)
    saved = load_model(workdir / "powerbert-1.5x" / "model")
    np.testing.assert_array_equal(saved.params["pruner"]["retention_N"], done["retention"])


def test_too_few_steps_raise_the_rate_of_ranks(make_config, tmp_path):
    options = config_of(make_config, "powerbert", (), powerbert__rank_learning_rate=3e-3).powerbert
    assert raise_rank_rate(tmp_path, options, 334) == "" and options.rank_learning_rate == 3e-3
    options.rank_learning_rate = 0.0  # the weights are to stay
    assert raise_rank_rate(tmp_path, options, 10) == "" and options.rank_learning_rate == 0.0
    options.rank_learning_rate = 3e-3
    assert raise_rank_rate(tmp_path, options, 186) == (
        "config.powerbert.rank_learning_rate was raised from 0.003 to 0.011: in 186 steps it takes "
        "no weight to 0"
    )
    assert options.rank_learning_rate == pytest.approx(2 / 186)


def test_a_search_that_was_begun_keeps_its_rate(make_config, tmp_path):
    """The rate of its start counts, whatever targets a later call has."""
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "metrics.jsonl").write_text("")  # begun by release 0.1
    rates = []
    for name, targets in [("new", ()), ("new", (2.0,)), ("earlier", (2.0,))]:
        config = config_of(make_config, "powerbert", targets, powerbert__rank_learning_rate=3e-3)
        raise_rank_rate(tmp_path / name, config.powerbert, 10)
        rates.append(config.powerbert.rank_learning_rate)
    assert rates == [0.2, 0.2, 3e-3]


def test_counts_and_targets_are_not_given_together(make_config):
    config = config_of(make_config, "powerbert", (2.0,), powerbert__retention=(9, 5, 3, 2))
    message = "config.powerbert.retention and config.powerbert.target_speedups are both given"
    with pytest.raises(ValueError, match=message):
        check_config(config)


@pytest.mark.parametrize("method", TARGETS)
@pytest.mark.parametrize("targets", [(0.8,), ("fast",), (2.0, 2.0000001)])
def test_impossible_targets_are_rejected(make_config, method, targets):
    with pytest.raises(ValueError, match=rf"config\.{method}\.target_speedups (holds|names)"):
        check_config(config_of(make_config, method, targets))
