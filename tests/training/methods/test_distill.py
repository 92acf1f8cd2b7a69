"""Students in miniature, and tokens pruned on top of one."""

import jax
import numpy as np
import pytest

from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.methods.distill import cut_layers, student_layers
from adapler_jax.training.run import run_all
from adapler_jax.weights.save import load_model
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


@pytest.mark.parametrize("layers", [(4,), (1, 1), (2, 1), (-1, 2)])
def test_layers_that_the_teacher_does_not_have_are_refused(make_config, workdirs, layers):
    workdir = workdirs()
    with pytest.raises(
        ValueError, match="config.distill.layers is .*; expected increasing numbers from 0 to 3"
    ):
        run_all(make_config(module=distill, distill__layers=layers), workdir, log=silent)
    assert not workdir.exists()


def test_a_run_leaves_a_shallower_model_that_is_faster(finished):
    done, saved = phases.read_done(finished / "distill"), load_model(finished / "distill" / "model")
    assert (
        saved.config.num_layers == 2
        and saved.pruner_name == "keep_all"
        and done["layers"] == [0, 2]
    )
    assert 1.5 < done["validation"]["flops_speedup"] < 2.0
    dense, student = evaluate_workdir(finished, log=silent)
    assert (dense["method"], student["method"]) == ("dense", "distill")
    assert dense["flops_speedup"] == 1.0 and 1.5 < student["flops_speedup"] < 2.0
    assert student["executed_speedup_32"] > 1.5


@pytest.mark.long
def test_tokens_are_pruned_on_top_of_a_student(make_config, workdirs, finished):
    workdir = workdirs()
    run_all(
        make_config(module=adapler, model=str(finished / "distill" / "model")), workdir, log=silent
    )
    saved = load_model(workdir / "adapler" / "model")
    assert saved.config.num_layers == 2 and saved.pruner_name == "adapler"
