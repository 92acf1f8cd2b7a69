"""Students in miniature, and tokens pruned on top of one."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.finished import load_options
from adapler_jax.training.methods.distill import cut_layers, spread_layers, student_layers
from adapler_jax.training.run import check_config, run_all
from adapler_jax.weights.save import load_model
from adapler_jax.weights.students import full_config
from configs import adapler, distill
from tests.tiny import CONFIG, make_params
from tests.training.runs import silent


@pytest.fixture(scope="module")
def finished(copied_run):
    return copied_run("distill")


def test_a_student_takes_the_layers_that_it_is_told_to():
    params, config = cut_layers(make_params(), CONFIG, (1, 3))
    assert config.num_layers == 2
    jax.tree.map(
        lambda found, whole: np.testing.assert_array_equal(found, whole[np.array([1, 3])]),
        params["encoder"]["layers"],
        make_params()["encoder"]["layers"],
    )
    assert student_layers((), 12) == (0, 2, 4, 6, 8, 10) and student_layers((), 3) == (0, 2)


@pytest.mark.parametrize(
    ("num_kept", "num_layers", "expected"),
    [(1, 6, (0,)), (3, 6, (0, 2, 5)), (4, 6, (0, 2, 3, 5)), (6, 12, (0, 2, 4, 7, 9, 11))],
)
def test_layers_of_a_student_are_spread_over_the_teachers(num_kept, num_layers, expected):
    assert spread_layers(num_kept, num_layers) == expected


@pytest.mark.parametrize("num_kept", [-1, 0, 4, 5])
def test_a_student_has_fewer_layers_than_its_teacher(num_kept):
    with pytest.raises(ValueError, match="needs a model of more; this one has 4"):
        spread_layers(num_kept, 4)


@pytest.mark.parametrize("layers", [(4,), (1, 1), (2, 1), (-1, 2)])
def test_layers_that_the_teacher_does_not_have_are_refused(make_config, workdirs, layers):
    workdir = workdirs()
    with pytest.raises(
        ValueError, match="config.distill.layers is .*; expected increasing numbers from 0 to 3"
    ):
        run_all(make_config(module=distill, distill__layers=layers), workdir, log=silent)
    assert not workdir.exists()


@pytest.mark.long
def test_a_run_leaves_a_shallower_model_that_is_faster(finished):
    done, saved = phases.read_done(finished / "distill"), load_model(finished / "distill" / "model")
    assert (
        saved.config.num_layers == 2
        and saved.pruner_name == "keep_all"
        and done["layers"] == [0, 2]
    )
    # One whole layer and the last, of three and the last.
    assert 2.0 < done["validation"]["flops_speedup"] < 3.0
    dense, student = evaluate_workdir(finished, log=silent)
    assert (dense["method"], student["method"]) == ("dense", "distill")
    assert dense["flops_speedup"] == 1.0 and 2.0 < student["flops_speedup"] < 3.0
    assert student["executed_speedup_32"] > 1.5


@pytest.fixture(scope="module")
def pruned(copied_run):
    return copied_run("student")


@pytest.mark.long
def test_tokens_of_a_student_are_dropped(pruned):
    names = ("distill", "adapler", "adapt-2x")
    student, *others = (load_model(pruned / name / "model") for name in names)
    for saved in others:
        assert saved.config == student.config and saved.config.num_layers == 2
        assert saved.pruner_name == "adapler"


@pytest.mark.long
def test_speedups_of_a_pruned_student_are_over_the_full_model(pruned):
    done = phases.read_done(pruned / "adapt-2x")["validation"]
    assert done["flops_speedup"] == pytest.approx(2.0, rel=0.05)
    dense, *others = evaluate_workdir(pruned, log=silent, with_times=False)
    found = {row["method"]: row["flops_speedup"] for row in others}
    assert dense["flops_speedup"] == 1.0 and 2.0 < found["distill"] < 3.0
    assert found["adapt-2x"] == pytest.approx(done["flops_speedup"], rel=0.1)


@pytest.mark.long
def test_a_calibrated_student_has_the_speedups_of_its_run(pruned):
    directory = pruned / "adapt-2x" / "model"
    assert full_config(load_model(directory)).num_layers == 4
    texts = [" ".join(words) for words in itertools.permutations(["a", "film", "good", "bad", "."])]
    found = calibrate_model(directory, texts, budgets=(0.5, 0.8, 1.0))
    # At budget 1 the layers alone are faster, less the predictors.
    assert 1.5 < found.rows[-1]["flops_speedup"] < 2.5
    assert found.rows[0]["flops_speedup"] > found.rows[-1]["flops_speedup"]


@pytest.mark.long
def test_the_driver_is_chosen_by_the_tokens_that_a_student_drops(pruned):
    scores = phases.read_done(pruned / "adapt-2x")["validation"]
    assert scores["token_speedup"] < scores["flops_speedup"]
    assert load_options(pruned, "adapt-2x")["expected_speedup"] == scores["token_speedup"]
    assert load_options(pruned, "dense")["expected_speedup"] is None


@pytest.mark.long
def test_a_student_without_epochs_starts_as_the_layers_of_its_teacher(make_config, workdirs):
    workdir = workdirs()
    config = make_config("student", distill__num_epochs=0, adapler__learning_rate=0.0)
    run_all(config, workdir, log=silent)
    assert not (workdir / "distill").exists()
    teacher = load_model(workdir / "finetune" / "model").params["encoder"]["layers"]
    student = load_model(workdir / "adapler" / "model")
    assert student.config.num_layers == 2 and full_config(student).num_layers == 4
    jax.tree.map(
        lambda found, whole: np.testing.assert_allclose(found, whole[np.array([0, 2])], rtol=1e-6),
        student.params["encoder"]["layers"],
        teacher,
    )
    rows = evaluate_workdir(workdir, log=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "adapler"]


def test_a_student_alone_needs_training():
    config = distill.get_config("sst2")
    config.distill.num_epochs = 0
    with pytest.raises(ValueError, match="config.distill.num_epochs is 0; expected at least 1"):
        check_config(config)


@pytest.mark.long
@pytest.mark.parametrize("num_layers", [None, 1, "6", True])
def test_a_count_of_layers_that_is_none_is_left_out(pruned, num_layers):
    saved = load_model(pruned / "distill" / "model")
    other = dataclasses.replace(saved, extra=saved.extra | {"teacher_layers": num_layers})
    assert full_config(other) == other.config


def test_a_student_and_the_authors_recipe_are_refused_together():
    config = adapler.get_config("sst2,student,paper")
    with pytest.raises(ValueError, match="with a student AdapLeR starts from the student"):
        check_config(config)


def test_layers_of_a_student_to_prune_are_checked_too(make_config, workdirs):
    config = make_config("student", distill__layers=(4,))
    with pytest.raises(ValueError, match="config.distill.layers is"):
        run_all(config, workdirs(), log=silent)
