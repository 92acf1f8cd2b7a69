"""Checkpoints after kills at every write, rename and removal, and with damaged files."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.training import checkpoints as module
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.steps import TrainState
from tests.marks import mostly_long

LIKE = {"w": jnp.zeros(3)}
# Ranks of the epochs and how many are kept: better, worse and equal ones, a tie with an earlier
# one, one that is not.
RUNS = [
    ((0.5, 0.6), 1),
    ((0.5, 0.5), 1),
    ((0.6, 0.5), 2),
    ((0.6, 0.5, 0.6), 1),
    ((0.5, 0.6, 0.6), 2),
    ((0.7, -1.0, 0.7), 1),
]


def open_at(folder, num_checkpoints=1):
    """Return the checkpoints, with a list of their notes."""
    told = []
    return Checkpoints(folder, num_checkpoints=num_checkpoints, log=told.append), told


def state_at(step):
    """A state whose numbers say its step."""
    return TrainState(jnp.asarray(step, jnp.int32), {"w": jnp.full(3, float(step))}, (), ())


def train(folder, ranks, num_checkpoints):
    """Save epochs from the last state; return the best steps and the restored state."""
    checkpoints, _ = open_at(folder, num_checkpoints)
    done = int(checkpoints.restore_last(state_at(0)).step)
    for step, rank in list(enumerate(ranks, start=1))[done:]:
        checkpoints.save_best(state_at(step), {"rank": rank, "score": rank})
        checkpoints.save_last(state_at(step))
    steps = checkpoints.best_steps()
    restored = [float(checkpoints.restore_best(LIKE, step)["w"][0]) for step in steps]
    last = int(checkpoints.restore_last(state_at(0)).step)
    checkpoints.close()
    return steps, restored, last


class FewBytes:
    """Replaces orbax: one file a tree, so that hundreds of kills take a second."""

    def __init__(self, _):
        pass

    def save(self, path, args):
        path.mkdir()
        tree = args.item.params if isinstance(args.item, TrainState) else args.item
        (path / "step").write_text(str(float(tree["w"][0])))

    def restore(self, path, args):
        value = float((path / "step").read_text())
        return (
            state_at(int(value)) if isinstance(args.item, TrainState) else {"w": jnp.full(3, value)}
        )

    def close(self):
        pass


@pytest.mark.parametrize(("ranks", "num_checkpoints"), mostly_long(RUNS, quick=RUNS[:1]))
def test_a_kill_at_every_write_rename_and_removal_changes_nothing(
    tmp_path, monkeypatch, killed_at_call, ranks, num_checkpoints
):
    monkeypatch.setattr(module.ocp, "Checkpointer", FewBytes)
    expected = train(tmp_path / "undisturbed", ranks, num_checkpoints)
    assert expected[2] == len(ranks) and expected[1] == [float(step) for step in expected[0]]
    num_calls = killed_at_call(0, lambda: train(tmp_path / "counted", ranks, num_checkpoints))
    assert num_calls > 20
    for kill in range(1, num_calls + 1):
        folder = tmp_path / f"killed-{kill}"
        killed_at_call(kill, lambda: train(folder, ranks, num_checkpoints))
        assert train(folder, ranks, num_checkpoints) == expected, kill
        assert {path.name for path in (folder / "best").iterdir()} == set(map(str, expected[0])), (
            kill
        )
        assert [path.name for path in (folder / "last").iterdir()] == [str(len(ranks))], kill


def test_orbax_gives_back_what_was_saved_and_of_equal_ranks_the_latest_wins(tmp_path):
    assert train(tmp_path, (0.5, 0.5, 0.4), 2) == ([2, 1], [2.0, 1.0], 3)
    assert train(tmp_path, (0.5, 0.5, 0.4), 2) == ([2, 1], [2.0, 1.0], 3)


def test_a_previous_best_epoch_that_was_being_removed_is_removed(tmp_path):
    """An earlier release left both epochs, the previous one whole or in part."""
    checkpoints, _ = open_at(tmp_path)
    checkpoints.save_best(state_at(4), {"rank": 0.5})
    shutil.copytree(tmp_path / "best" / "4", tmp_path / "saved")
    checkpoints.save_best(state_at(8), {"rank": 0.5})
    for missing in (
        (),
        ("metrics",),
        ("metrics", "checksums.sha256"),
        ("default",),
        ("default", "checksums.sha256"),
    ):
        shutil.copytree(tmp_path / "saved", tmp_path / "best" / "4")
        for name in missing:
            path = tmp_path / "best" / "4" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        again, told = open_at(tmp_path)
        assert again.best_steps() == [8]
        assert float(again.restore_best(LIKE)["w"][0]) == 8.0
        assert len(told) == ("metrics" in missing) and not (tmp_path / "best" / "4").exists()
        again.close()
    checkpoints.close()


def damage(path):
    """Flips a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(name="saved", scope="module")
def _saved(tmp_path_factory):
    """A phase's directory with a best epoch and a last state, by orbax."""
    folder = tmp_path_factory.mktemp("saved") / "finetune"
    folder.mkdir()
    train(folder, (0.5,), 1)
    return folder


def files_in(folder):
    """Names of all files of a step, those that hold nothing left out."""
    return [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size
    ]


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("kind", ["last", "best"])
def test_every_damaged_file_of_a_checkpoint_is_named_with_what_it_costs(saved, tmp_path, kind, how):
    names = files_in(saved / kind / "1")
    assert len(names) > 5
    for number, name in enumerate(names):
        folder = tmp_path / str(number) / "finetune"
        shutil.copytree(saved, folder)
        path = folder / kind / "1" / name
        if how == "flipped":
            damage(path)
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:-2])
        else:
            path.unlink()
        if (how, path.name) == ("gone", "checksums.sha256"):
            continue  # an earlier release did so
        with pytest.raises(
            ValueError, match=r"is damaged; remove .*finetune and give the same command again; it"
        ):
            checkpoints, _ = open_at(folder)
            checkpoints.restore_last(state_at(0))


def test_a_damaged_last_state_is_told_and_the_one_before_it_is_used(tmp_path):
    checkpoints, _ = open_at(tmp_path)
    checkpoints.save_last(state_at(1))
    shutil.copytree(tmp_path / "last" / "1", tmp_path / "saved")
    checkpoints.save_last(state_at(2))
    checkpoints.close()
    shutil.copytree(tmp_path / "saved", tmp_path / "last" / "1")  # killed before it was removed
    damage(next((tmp_path / "last" / "2").rglob("d/*")))
    checkpoints, told = open_at(tmp_path)
    assert int(checkpoints.restore_last(state_at(0)).step) == 1
    assert len(told) == 1 and "step 2 is done again" in told[0]
    checkpoints.save_last(state_at(2))
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["2"]
    checkpoints.close()


def test_checkpoints_of_an_earlier_release_are_read_without_checksums(saved, tmp_path):
    folder = tmp_path / "finetune"
    shutil.copytree(saved, folder)
    for path in folder.rglob("checksums.sha256"):
        path.unlink()
    (folder / "last" / "2.orbax-checkpoint-tmp-7").mkdir()  # its unfinished write
    checkpoints, told = open_at(folder)
    assert int(checkpoints.restore_last(state_at(0)).step) == 1
    np.testing.assert_array_equal(checkpoints.restore_best(LIKE)["w"], 1.0)
    assert told == [] and [path.name for path in (folder / "last").iterdir()] == ["1"]
    checkpoints.close()
    (folder / "best" / "1" / "default" / "manifest.ocdbt").unlink()
    checkpoints, _ = open_at(folder)
    with pytest.raises(
        ValueError, match="best/1 cannot be read .*; remove .*finetune and give the same command"
    ):
        checkpoints.restore_best(LIKE)
    checkpoints.close()


def test_scores_that_are_no_ranks_are_damaged(saved, tmp_path):
    for number, content in enumerate(("[]", '{"rank": "high"}', '{"rank": NaN}', "{")):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        (folder / "best" / "1" / "metrics" / "metrics").write_text(content)
        with pytest.raises(ValueError, match="metrics/metrics is damaged"):
            open_at(folder)


def test_what_an_epoch_was_saved_with_comes_back(tmp_path):
    checkpoints, _ = open_at(tmp_path)
    scores = {"rank": 1.0, "score": 0.25, "kept_tokens": [2.0, 1.5]}
    checkpoints.save_best(state_at(1), scores)
    checkpoints.close()
    again, _ = open_at(tmp_path)
    assert again.best_scores() == {"score": 0.25, "kept_tokens": [2.0, 1.5]}
    found = json.loads((tmp_path / "best" / "1" / "metrics" / "metrics").read_text())
    assert found == scores | {"reached_step": 1}
    again.close()


def test_of_equal_epochs_the_first_says_when_the_best_rank_was_reached(tmp_path):
    for step, (rank, reached) in enumerate(
        [(0.5, 1), (0.4, 1), (0.5, 1), (0.5, 1), (0.6, 5), (0.6, 5)], start=1
    ):
        checkpoints, _ = open_at(tmp_path)
        checkpoints.save_best(state_at(step), {"rank": rank})
        assert checkpoints.reached_step() == reached
        checkpoints.close()
