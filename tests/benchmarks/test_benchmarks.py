"""Benchmarks return as many rows and timings as they promise; what they measure is not judged here."""

import json

import pytest

from adapler_jax.training.provenance import commit_of_tree
from benchmarks import ablation, accuracy, engines, training
from benchmarks.records import Record


def silent(_):
    pass


def test_training_steps_are_timed_in_both_methods(tmp_path):
    rows = training.main(["--quick", "--json", str(tmp_path / "rows.json")])
    methods = ["finetune", "adapler", "adapler, attention dropout"]
    assert [(row["dtype"], row["method"]) for row in rows] == [
        (dtype, method) for dtype in ("float32", "bfloat16") for method in methods
    ]
    assert all(row["num_timings"] == 2 and row["wall_ms"] > 0 and row["memory_mib"] > 0 for row in rows)
    record = json.loads((tmp_path / "rows.json").read_text())
    assert record["rows"] == rows
    assert {"command", "commit", "device", "versions", "date"} <= record.keys()


def test_engines_are_timed_at_every_schedule(tmp_path):
    rows = engines.main(["--quick", "--dtypes=float32", "--json", str(tmp_path / "rows.json")])
    pruned = [(target, engine) for target in (1.0, 2.0) for engine in ("bucketed", "packed")]
    assert [(row["target"], row["engine"]) for row in rows] == [(1.0, "dense"), (1.0, "dense, packed"), *pruned]
    assert all(row["num_timings"] == 2 and row["wall_ms"] > 0 for row in rows)
    assert [round(row["flops_speedup"], 1) for row in rows] == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]


def test_variants_share_the_fine_tuned_model(make_config, tmp_path):
    config = make_config(adapler__length_coef=3.0)
    row = ablation.run_variant(config, "no-distillation", tmp_path, 1.2, silent)
    assert row["variant"] == "no-distillation"
    assert row["adapted_flops_speedup"] >= 1.2
    names = ("default", "no-distillation")
    shared = [(tmp_path / name / "finetune" / "model" / "model.safetensors").read_bytes() for name in names]
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


def test_accuracy_compares_with_a_control_of_as_many_epochs(make_config, tmp_path):
    config = make_config(adapt__speedups=(1.2,), finetune__num_epochs=2)
    assert accuracy.control_config(config).finetune.num_epochs == 4
    rows = accuracy.run_seed(config, 1, tmp_path, tell=silent)
    assert [row["method"] for row in rows] == ["adapler", "adapt-1.2x"]
    assert all(row["training_commits"] == [commit_of_tree()] for row in rows)
    assert all({"validation_score", "validation_flops_speedup", "wall_speedup_32"} <= row.keys() for row in rows)
    (control,) = accuracy.run_control(config, 1, tmp_path, tell=silent)
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
    with pytest.raises(ValueError, match="other values of adapler.length_coef; give another --json"):
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
