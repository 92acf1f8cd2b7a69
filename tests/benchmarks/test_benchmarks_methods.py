import json
import types

import pytest

from adapler_jax.training.baselines import SHORTENING
from adapler_jax.training.run import check_config, phase_list
from adapler_jax.training.workdir import flatten
from benchmarks import methods
from benchmarks.methods import (
    BASELINES,
    CONFIGS,
    config_of,
    dial_fields,
    even_layers,
    parse_changes,
    parse_dials,
    summarize,
)
from benchmarks.plot_methods import curves, plot_curves
from configs import finetune

ADAPLER = {"split": "test", "method": "adapler", "dial": 2.0, "dense_training_s": 20.0}
ROWS = [
    ADAPLER
    | {"seed": 0, "test_score": 0.8, "dense_score": 0.9, "flops_speedup": 2.0, "training_s": 60.0},
    ADAPLER
    | {"seed": 1, "test_score": 0.9, "dense_score": 0.94, "flops_speedup": 2.2, "training_s": None},
    ADAPLER
    | {
        "method": "trbert",
        "dial": 1.0,
        "seed": 0,
        "test_score": 0.85,
        "dense_score": 0.9,
        "flops_speedup": 1.5,
    },
]


def test_dials_are_read_from_one_text():
    assert parse_dials("adapler=1.7,3;trbert=0.5") == {"adapler": (1.7, 3.0), "trbert": (0.5,)}
    with pytest.raises(ValueError, match="'adapler=fast'; expected METHOD=NUMBER,NUMBER"):
        parse_dials("adapler=fast")
    with pytest.raises(
        ValueError,
        match="unknown method 'bert'; there are student, powerbert, .*, vocabulary, random",
    ):
        parse_dials("bert=1")


def test_changes_are_read_in_pythons_notation():
    changes = parse_changes(
        ["reinit_head=True", "data.split_fractions={'validation': 0.1}", "model=a/b=c"]
    )
    assert changes == {
        "reinit_head": True,
        "data.split_fractions": {"validation": 0.1},
        "model": "a/b=c",
    }
    with pytest.raises(ValueError, match="--set=reinit_head; expected FIELD=VALUE"):
        parse_changes(["reinit_head"])


@pytest.mark.parametrize("changes", [{"no_such": 1}, {"finetune.num_epochs": "two"}])
def test_changes_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match="--set does not fit the config"):
        config_of(CONFIGS["trbert"], "rotten_tomatoes", 0, changes)


@pytest.mark.parametrize(
    ("num_kept", "num_layers", "layers"),
    [(3, 6, (0, 2, 4)), (4, 6, (0, 1, 3, 4)), (2, 3, (0, 1)), (3, 3, (0, 1, 2))],
)
def test_a_student_takes_layers_evenly(num_kept, num_layers, layers):
    assert even_layers(float(num_kept), num_layers) == layers


@pytest.mark.parametrize("num_kept", [0, 2.5, 7])
def test_a_student_of_no_such_depth_is_refused(num_kept):
    with pytest.raises(ValueError, match="expected 1 to 6"):
        even_layers(num_kept, 6)


@pytest.mark.parametrize("method", CONFIGS)
def test_a_dial_sets_the_fields_of_its_method(method):
    dial = dial_fields(method, 2.0, 6)
    config = config_of(CONFIGS[method], "rotten_tomatoes", 3, {"compute_dtype": "bfloat16"} | dial)
    check_config(config)
    assert config.seed == 3 and config.compute_dtype == "bfloat16"
    flat = flatten(config.to_dict())
    assert {
        name: tuple(flat[name]) if isinstance(flat[name], list) else flat[name] for name in dial
    } == dial
    assert phase_list(config)[0][0] == "finetune" and len(phase_list(config)) > 1


def test_means_and_deviations_are_over_the_seeds():
    dense, first, second = summarize(ROWS)
    assert (dense["method"], dense["num_seeds"], dense["training_s"]) == ("dense", 2, 20.0)
    assert dense["test_score"] == pytest.approx(0.92)
    assert (first["method"], first["dial"], first["num_seeds"]) == ("adapler", 2.0, 2)
    assert first["test_score"] == pytest.approx(0.85) and first["test_score_sd"] == pytest.approx(
        0.005**0.5
    )
    assert first["training_s"] == 60.0 and "training_s" not in second
    assert second["test_score_sd"] is None
    found = curves([dense, second, first])
    assert found["dense"] == [pytest.approx((1.0, 92.0, 100 * 0.0008**0.5))]
    assert found["trbert"] == [(1.5, 85.0, 0.0)]
    assert found["adapler"] == [pytest.approx((2.1, 85.0, 100 * 0.005**0.5))]


def test_splits_are_summed_up_apart():
    more = [row | {"split": "validation_mismatched", "test_score": 0.5} for row in ROWS]
    assert [row["num_seeds"] for row in summarize([*ROWS, *more])] == [2, 2, 2, 1, 2, 1]


def test_fields_of_one_method_are_left_out_of_the_others():
    changes = {"trbert.num_samples": 4, "compute_dtype": "bfloat16"}
    assert config_of(CONFIGS["trbert"], "rotten_tomatoes", 0, changes).trbert.num_samples == 4
    assert config_of(finetune, "rotten_tomatoes", 0, changes).compute_dtype == "bfloat16"


def test_a_plot_is_drawn(tmp_path):
    plot_curves(ROWS, summarize(ROWS), tmp_path / "curves.png", title="a task")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(name="evaluated")
def _evaluated(monkeypatch):
    """Calls of the evaluation, which answers with rows of the dense model and of baselines."""
    calls = []

    def evaluate(workdir, *, speedups, **options):
        calls.append((workdir.name, speedups, options["baselines"], options["only"]))
        row = {"split": "test", "seed": int(workdir.name[4]), "dense_score": 0.9, "test_score": 0.8}
        return [
            row | {"method": "dense", "flops_speedup": 1.0},
            row | {"method": "stop words", "flops_speedup": 1.6182},
            *(
                row | {"method": name, "flops_speedup": 1.001 * value, "target_speedup": value}
                for name in BASELINES
                for value in speedups.values()
            ),
        ]

    monkeypatch.setattr(methods, "evaluate_workdir", evaluate)
    monkeypatch.setattr(methods, "run_all", lambda config, workdir, log: None)
    monkeypatch.setattr(methods, "training_seconds", lambda config, *workdirs: 20.0)
    monkeypatch.setattr(methods, "plan", lambda *arguments: {})
    return calls


def test_baselines_are_rows_of_every_seed_with_their_speedup(evaluated, tmp_path):
    options = types.SimpleNamespace(
        seeds=["0", "1"],
        dials="random=1.7,3",
        task="rotten_tomatoes",
        runs=str(tmp_path),
        json=str(tmp_path / "methods.json"),
        times=True,
    )
    rows = methods.measure(options, {"model": "m"}, log=lambda line: None)
    assert [(row["seed"], row["method"], row["dial"]) for row in rows] == [
        (seed, *pair)
        for seed in (0, 1)
        for pair in (("stop words", 1.62), ("random", 1.7), ("random", 3.0))
    ]
    assert evaluated[0] == ("seed0-dense", {"1.7x": 1.7, "3x": 3.0}, SHORTENING, "dense")
    assert methods.measure(options, {"model": "m"}, log=lambda line: None) == rows
    assert len(evaluated) == 2
    options.dials = "random=1.7,2,3;cut=3"
    more = methods.measure(options, {"model": "m"}, log=lambda line: None)[len(rows) :]
    assert [(row["method"], row["dial"]) for row in more] == 2 * [("random", 2.0), ("cut", 3.0)]
    summary = json.loads((tmp_path / "methods.json").read_text())["summary"]
    found = [(row["method"], row["dial"], row["num_seeds"]) for row in summary]
    assert found[:2] == [("dense", None, 2), ("stop words", 1.62, 2)]
