"""Benchmarks return as many rows and timings as they promise."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.io.provenance import commit_of_tree
from adapler_jax.types import SiteInput
from benchmarks import (
    ablation,
    accuracy,
    cold_start,
    engines,
    gpu,
    loss_curve,
    plot_speed,
    predict_files,
    training,
    training_steps,
)
from benchmarks.records import Record
from tests.training.runs import silent


@pytest.mark.long
def test_chosen_steps_are_timed_beside_fine_tuning(tmp_path):
    rows = training.main(
        ["--quick", "--steps=finetune, remat", "--json", str(tmp_path / "rows.json")]
    )
    assert [row["method"] for row in rows] == 2 * ["finetune", "finetune, remat"]
    assert [row["time_ratio"] for row in rows[::2]] == [1.0, 1.0]
    assert all(
        row["num_timings"] == 2 and row["wall_ms"] > 0 and row["memory_mib"] > 0 for row in rows
    )
    record = json.loads((tmp_path / "rows.json").read_text())
    assert record["rows"] == rows
    assert {"command", "commit", "device", "versions", "date"} <= record.keys()


def test_there_is_a_step_of_every_phase():
    assert list(training_steps.STEPS) == [
        "finetune",
        "finetune, remat",
        "saliency",
        "adapler",
        "adapler, attention dropout",
        "adapt",
        "powerbert search",
        "powerbert",
        "trbert policy",
        "trbert",
    ]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--steps=bert", "unknown step bert; there are finetune"),
        ("--shapes=32", "case '32'; expected batch x"),
    ],
)
def test_steps_and_shapes_that_there_are_not_are_refused(argument, message, capsys):
    with pytest.raises(SystemExit):
        training.main([argument])
    assert message in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(("method", "speedup"), [("powerbert", 1.5), ("trbert", 1.1)])
def test_engines_are_timed_with_other_methods(method, speedup):
    arguments = [
        "--models=quick",
        "--cases=4x16",
        "--rounds=2",
        "--dtypes=float32",
        f"--speedups={speedup}",
    ]
    rows = engines.main([*arguments, f"--method={method}"])
    pruned = [row for row in rows if row["engine"] in ("bucketed", "packed")]
    assert [row["method"] for row in pruned] == [method] * 2
    assert all(0.87 < row["flops_speedup"] / speedup < 1.2 for row in pruned)


def test_a_speedup_that_a_method_cannot_reach_is_refused(capsys):
    with pytest.raises(SystemExit):
        engines.main(["--models=quick", "--cases=4x16", "--speedups=2", "--method=trbert"])
    assert "trbert on 2 layers is at most 1.1" in capsys.readouterr().err


@pytest.mark.long
def test_engines_are_timed_at_every_schedule(tmp_path):
    rows = engines.main(["--quick", "--dtypes=float32", "--json", str(tmp_path / "rows.json")])
    plain, pruned = ("dense", "dense, packed"), ("bucketed", "packed")
    expected = [("mixed", 1.0, engine) for engine in plain]
    expected += [("mixed", target, engine) for target in (1.0, 2.0) for engine in pruned]
    expected += [("full", 1.0, engine) for engine in plain]
    expected += [(texts, None, engine) for texts in ("even", "skewed") for engine in pruned]
    assert [(row["texts"], row.get("target"), row["engine"]) for row in rows] == expected
    assert all(row["num_timings"] == 2 and row["wall_ms"] > 0 for row in rows)
    assert [round(row["flops_speedup"], 1) for row in rows[:8]] == [
        1.0,
        1.0,
        1.0,
        1.0,
        2.0,
        2.0,
        1.0,
        1.0,
    ]
    assert all(row["compile_s"] > 0 and row["planned_mib"] > 0 for row in rows[:8])
    assert all(1.0 < row["flops_to_even"] < 4.0 for row in rows if row["texts"] == "skewed")


@pytest.mark.long
def test_the_accelerator_benchmark_times_drivers_and_steps(tmp_path):
    engine_rows, training_rows = gpu.main(
        ["--quick", "--steps=trbert policy", "--json", str(tmp_path / "rows.json")]
    )
    drivers = 2 + 2 * 2 + 2  # plain, two schedules, full texts
    assert [row["dtype"] for row in engine_rows] == drivers * ["bfloat16"]
    methods = ["finetune", "trbert policy"]
    assert [(row["dtype"], row["method"]) for row in training_rows] == [
        ("bfloat16", method) for method in methods
    ]
    rows = [*engine_rows, *training_rows]
    assert all(
        row["num_timings"] == 2 and row["wall_ms"] > 0 and row["model"] == "quick" for row in rows
    )
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == rows


def gpu_rows(monkeypatch, *arguments, stop_after=None):
    """Return the rows of `benchmarks.gpu` and its jobs, with stand-ins for measurements."""
    jobs = []

    def measure(job, options):
        if len(jobs) == stop_after:
            raise KeyboardInterrupt
        jobs.append((job.kind, job.case, job.dtypes))
        row = {"model": job.model, "batch": job.case[0], "length": job.case[1]}
        if job.kind == gpu.ENGINES:
            return [
                row | {"dtype": job.dtypes[0], "engine": driver}
                for driver in ("dense", *options.drivers)
            ]
        names = ["finetune", *options.steps]
        return [row | {"dtype": dtype, "method": name} for dtype in job.dtypes for name in names]

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "print_results", silent)
    monkeypatch.setattr(gpu.jax, "default_backend", lambda: "gpu")
    try:
        return gpu.main(
            ["--models=quick", "--steps=saliency", "--step_cases=2x8", *arguments]
        ), jobs
    except KeyboardInterrupt:
        return None, jobs


def test_the_accelerator_benchmark_writes_after_every_case_and_resumes(monkeypatch, tmp_path):
    path = tmp_path / "rows.json"
    chosen = [
        "--cases=1x8,2x8",
        "--dtypes=bfloat16,float32",
        "--drivers=bucketed",
        f"--json={path}",
    ]
    _, jobs = gpu_rows(monkeypatch, *chosen, stop_after=3)
    expected = [
        ("engines", (size, 8), (dtype,)) for dtype in ("bfloat16", "float32") for size in (1, 2)
    ]
    expected.append(("training", (2, 8), ("bfloat16", "float32")))
    assert jobs == expected[:3] and len(json.loads(path.read_text())["rows"]) == 6
    found, jobs = gpu_rows(monkeypatch, *chosen, "--resume")
    assert jobs == expected[3:] and json.loads(path.read_text())["rows"] == [*found[0], *found[1]]
    assert {row["engine"] for row in found[0]} == {"dense", "bucketed"} and len(found[1]) == 4
    chosen[2] = "--drivers=bucketed,packed"
    assert gpu_rows(monkeypatch, *chosen, "--resume")[1] == expected[:4]
    record = json.loads(path.read_text())
    for content in (
        json.dumps(record | {"device": "a lathe"}),
        "{",
        json.dumps(record | {"rows": [1]}),
    ):
        path.write_text(content)
        assert gpu_rows(monkeypatch, *chosen, "--resume")[1] == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--drivers=masked", "unknown driver masked; there are bucketed, packed"),
        ("--dtypes=float16", "unknown dtype float16"),
        ("--cases=32", "case '32'; expected batch x length"),
        ("--models=tiny", "unknown model tiny"),
        ("--steps=walk", "unknown step walk"),
        ("--resume", "needs the file"),
    ],
)
def test_the_accelerator_benchmark_refuses_what_there_is_not(argument, message, capsys):
    with pytest.raises(SystemExit):
        gpu.main([argument])
    assert message in capsys.readouterr().err


def test_the_accelerator_benchmark_does_not_start_on_a_cpu(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "only CPUs" in capsys.readouterr().err


def test_one_text_of_a_skewed_batch_keeps_all_tokens():
    config = engines.MODELS["quick"]
    pruner, batch = (
        engines.first_site_pruner(config),
        engines.skewed_batch(config, 3, 16, num_whole=1),
    )
    even_BL = np.asarray(batch.token_BL % 2 == 0)
    assert even_BL.sum(-1).tolist() == [16, 2, 2]
    view = SiteInput(
        np.where(even_BL, 1.0, -1.0), batch.valid_BL, batch.valid_BL.astype(np.float32)
    )
    for index, counts in ((0, [16, 2, 2]), (1, [16, 16, 16])):
        assert (
            pruner.hard({}, index, jax.tree.map(jnp.asarray, view)).keep_BL.sum(-1).tolist()
            == counts
        )


def test_the_plot_has_a_curve_for_every_driver_and_dtype_of_a_panel():
    row = {
        "texts": "mixed",
        "model": "base",
        "batch": 32,
        "length": 128,
        "dtype": "float32",
        "flops_speedup": 2.0,
    }
    rows = [
        row | {"engine": engine, "wall_speedup": 1.5} for engine in ("dense", "bucketed", "packed")
    ]
    rows += [rows[2] | {"flops_speedup": 9.0, "wall_speedup": 8.0}, rows[2] | {"texts": "full"}]
    assert plot_speed.curves(rows) == {
        ("base", 32, 128): {
            ("bucketed", "float32"): [(2.0, 1.5)],
            ("packed", "float32"): [(2.0, 1.5), (9.0, 8.0)],
        }
    }


@pytest.mark.long
def test_first_answers_are_timed_in_every_case():
    rows = cold_start.main(["--quick"])
    assert [row["case"] for row in rows] == ["nothing kept", "compiled", "exported"]
    assert [row["num_timings"] for row in rows] == [1, 2, 2]
    assert all(row["total_s"] > 0 and row["import_s"] > 0 and row["answer_s"] > 0 for row in rows)


@pytest.mark.long
def test_predicting_files_is_timed_beside_its_model(tmp_path):
    rows = predict_files.main(["--quick", "--json", str(tmp_path / "rows.json")])
    assert [(row["case"], row["num_texts"]) for row in rows] == [
        ("probabilities", 1200),
        ("kept words", 120),
        ("lines", 1200),
        ("lines", 2400),
    ]
    assert all(
        0.0 < row["model_share"] < 1.0 and row["bare_s"] > 0.0 and row["peak_mib"] > 50
        for row in rows
    )
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == rows


def test_a_model_to_predict_files_with_needs_texts(capsys):
    with pytest.raises(SystemExit):
        predict_files.main(["--model=m"])
    assert "--model and --texts go together" in capsys.readouterr().err


@pytest.mark.long
def test_curves_of_both_dtypes_share_start_and_batches(make_config):
    rows = loss_curve.compare(make_config(), (0, 1), 6, log=silent, window=3)
    assert [(row["seed"], row["dtype"]) for row in rows] == [
        (seed, dtype) for seed in (0, 1) for dtype in ("float32", "bfloat16")
    ]
    assert all(len(row["smoothed_loss"]) == 4 for row in rows)
    found = loss_curve.summarize(rows)
    assert 0.0 < found["dtypes_max"] < found["seeds_max"]


def test_distances_of_curves_by_hand():
    np.testing.assert_allclose(loss_curve.smooth([1.0, 3.0, 5.0, 1.0], window=2), [2.0, 4.0, 3.0])
    curves = {("float32", 0): [2.0, 4.0], ("bfloat16", 0): [2.0, 4.5], ("float32", 1): [3.0, 4.0]}
    curves["bfloat16", 1] = [2.75, 4.0]
    rows = [
        {"dtype": dtype, "seed": seed, "smoothed_loss": curve}
        for (dtype, seed), curve in curves.items()
    ]
    assert loss_curve.summarize(rows) == {
        "dtypes_max": 0.5,
        "dtypes_mean": 0.1875,
        "seeds_max": 1.0,
        "seeds_mean": 0.5,
        "max_ratio": 0.5,
    }


@pytest.mark.long
def test_variants_share_the_fine_tuned_model(make_config, tmp_path):
    config = make_config(adapler__length_coef=3.0)
    row = ablation.run_variant(config, "no-distillation", tmp_path, 1.2, silent)
    assert row["variant"] == "no-distillation"
    assert row["adapted_flops_speedup"] >= 1.2
    names = ("default", "no-distillation")
    shared = [
        (tmp_path / name / "finetune" / "model" / "model.safetensors").read_bytes()
        for name in names
    ]
    assert shared[0] == shared[1]
    assert not (tmp_path / "default" / "adapler").exists()
    assert ablation.run_variant(config, "no-distillation", tmp_path, 1.2, silent) == row


def test_every_variant_changes_a_field_that_exists(make_config):
    for name, changes in ablation.VARIANTS.items():
        changed = ablation.variant_config(make_config(), name, 1.7).to_dict()
        default = ablation.variant_config(make_config(), "default", 1.7).to_dict()
        assert (changed != default) == bool(changes)


def test_an_unknown_variant_is_named(make_config):
    with pytest.raises(ValueError, match="unknown variant 'faster'; there are default"):
        ablation.variant_config(make_config(), "faster", 1.7)


@pytest.mark.long
def test_accuracy_compares_with_a_control_of_as_many_epochs(make_config, tmp_path):
    config = make_config(adapt__target_speedups=(1.2,), finetune__num_epochs=2)
    assert accuracy.control_config(config).finetune.num_epochs == 4
    rows = accuracy.run_seed(config, 1, tmp_path, log=silent)
    assert [row["method"] for row in rows] == ["adapler", "adapt-1.2x"]
    assert all(row["training_commits"] == [commit_of_tree()] for row in rows)
    assert all(
        {"validation_score", "validation_flops_speedup", "wall_speedup_32"} <= row.keys()
        for row in rows
    )
    (control,) = accuracy.run_control(config, 1, tmp_path, log=silent)
    assert control["method"] == "control" and 0.0 <= control["test_score"] <= 1.0
    assert all(row["seed"] == 1 for row in (*rows, control))


def test_a_record_grows_over_calls_and_keeps_to_its_settings(tmp_path):
    path, fields = tmp_path / "rows.json", {"adapler.length_coef": 0.3}
    Record(path, fields, module="benchmarks.accuracy").add([{"seed": 0}], count=len)
    record = Record(path, fields, module="benchmarks.accuracy")
    record.add([{"seed": 1}], count=len)
    written = json.loads(path.read_text())
    assert [row["seed"] for row in written["rows"]] == [0, 1]
    assert all({"commit", "device", "date"} <= row.keys() for row in written["rows"])
    assert written["count"] == 2 and written["config"] == fields
    with pytest.raises(
        ValueError, match=r"other values of adapler.length_coef; give another --json"
    ):
        Record(path, {"adapler.length_coef": 0.5}, module="benchmarks.accuracy")


def test_means_over_seeds_by_hand():
    rows = [
        {"split": "test", "method": "adapler", "test_score": 0.8, "flops_speedup": 2.0},
        {"split": "test", "method": "adapler", "test_score": 0.9, "flops_speedup": 4.0},
        {"split": "other", "method": "adapler", "test_score": 0.1, "flops_speedup": 1.0},
    ]
    line, other = accuracy.summarize(rows)
    assert other["num_seeds"] == 1 and other["test_score"] == 0.1
    assert line["num_seeds"] == 2
    assert line["test_score"] == pytest.approx(0.85) and line["flops_speedup"] == pytest.approx(3.0)
    assert line["test_score_sd"] == pytest.approx(0.0707, abs=1e-4)
