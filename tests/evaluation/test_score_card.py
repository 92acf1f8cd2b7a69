"""An evaluation writes the scores into the models' cards, for readers and for the Hub."""

import json

import pytest
from huggingface_hub import ModelCard

from adapler_jax.evaluation import score_card
from adapler_jax.evaluation.score_card import hub_results, score_section, write_scores
from adapler_jax.heads import hotpot
from adapler_jax.io.records import results_record
from adapler_jax.weights.save import load_model, save_model
from tests.export.onnx_models import save_tiny

DENSE = {
    "task": "reviews",
    "split": "test",
    "num_texts": 1200,
    "unit": "texts",
    "method": "dense",
    "metric": "accuracy",
    "test_score": 0.8125,
    "dense_score": 0.8125,
    "flops_speedup": 1.0,
}
PRUNED = DENSE | {
    "method": "adapler",
    "test_score": 0.8,
    "flops_speedup": 1.987,
    "difference": -0.0125,
    "difference_se": 0.006,
    **{"wall_ms_1": 4.5, "dense_wall_ms_1": 9.0, "wall_speedup_1": 2.0},
    **{"wall_ms_32": 1.25, "dense_wall_ms_32": 5.0, "wall_speedup_32": 4.0},
}
COMMAND = "adapler evaluate --workdir=runs/mine"


def card_of(saved):
    return (saved.directory / "README.md").read_text()


@pytest.fixture(name="models")
def saved_models(tmp_path):
    options = {"task": "reviews", "extra": {"base_model": "org/some-bert"}}
    names = {"dense": "keep_all", "adapler": "adapler"}
    return {
        name: load_model(save_tiny(tmp_path / name, method, **options))
        for name, method in names.items()
    }


def test_a_row_has_score_difference_and_seconds():
    record = {"command": COMMAND, "device": "a cpu", "date": "2026-11-29T10:00:00"}
    lines = score_section([PRUNED], [DENSE, PRUNED], record).splitlines()
    assert lines[0] == "## Scores" and f"`{COMMAND}` (a cpu, 2026-11-29)." in lines[2]
    assert lines[-3] == (
        "| split | texts | accuracy | dense | difference | FLOPs speedup | speedup, batch 1 "
        "| ms a text, batch 1 | speedup, batch 32 | ms a text, batch 32 |"
    )
    assert lines[-1] == (
        "| test | 1,200 | 80.0 | 81.2 | -1.2 ± 0.6 | 1.99x | 2.00x | 4.50 | 4.00x | 1.25 |"
    )


def test_a_reranker_has_its_agreement_with_the_dense_order():
    orders = {"kendall_tau": 0.8765, "top10_overlap": 0.95}
    ranked = {name: value for name, value in PRUNED.items() if "wall" not in name} | orders
    record = {"command": COMMAND, "device": "a cpu", "date": "2026-11-29"}
    text = score_section([ranked], [DENSE, ranked], record)
    assert "\nSame top 10: the documents among the first ten" in text
    assert text.splitlines()[-3:] == [
        "| split | texts | accuracy | dense | difference | same top 10 | tau | FLOPs speedup |",
        "|---|---|---|---|---|---|---|---|".replace("---", " --- "),
        "| test | 1,200 | 80.0 | 81.2 | -1.2 ± 0.6 | 95.0 | 87.6 | 1.99x |",
    ]
    assert "tau" not in score_section([PRUNED], [DENSE, PRUNED], record)


def test_splits_without_seconds_have_empty_cells():
    other = {name: value for name, value in PRUNED.items() if "wall" not in name}
    record = {"command": COMMAND, "device": "a cpu", "date": "2026-11-29"}
    lines = score_section([PRUNED, other | {"split": "test_2"}], [PRUNED], record).splitlines()
    assert lines[-1].startswith("| test_2 | 1,200 |") and lines[-1].endswith("|  |  |  |  |")


def test_each_model_gets_its_own_rows(models):
    others = [PRUNED | {"method": "stop words"}, PRUNED | {"method": "adapler at 0.4"}]
    record = results_record([DENSE, PRUNED, *others], command=COMMAND)
    write_scores(models, record, log=print)
    found = json.loads((models["adapler"].directory / "scores.json").read_text())
    assert [row["method"] for row in found["rows"]] == ["adapler"] and found["command"] == COMMAND
    dense, pruned = map(card_of, models.values())
    assert "-1.2 ± 0.6" in pruned and "difference |" not in dense and "2.00x" not in dense
    assert "| 1.00x | 1.00x | 9.00 | 1.00x | 5.00 |" in dense


def test_the_hub_reads_the_scores_and_the_base_model(models):
    for score in (0.7, 0.8):
        write_scores(
            models, results_record([PRUNED | {"test_score": score}], command=COMMAND), log=print
        )
    data = ModelCard.load(models["adapler"].directory / "README.md").data
    assert data.base_model == "org/some-bert" and data.pipeline_tag == "text-classification"
    assert [(found.metric_type, found.metric_value) for found in data.eval_results] == [
        ("accuracy", 0.8),
        ("flops_speedup", 1.987),
    ]
    assert {found.dataset_name for found in data.eval_results} == {"reviews"}
    assert {found.dataset_split for found in data.eval_results} == {"test"}


def test_scores_go_with_other_weights_and_stay_with_equal_ones(models):
    write_scores(models, results_record([DENSE, PRUNED], command=COMMAND), log=print)
    saved = models["adapler"]
    fields = {"pruner_name": "adapler", "task": "reviews", "extra": saved.extra}
    before = card_of(saved)
    save_model(saved.directory, saved.params, saved.config, **fields)
    assert card_of(saved) == before
    saved.params["head"]["classifier"]["bias"] = saved.params["head"]["classifier"]["bias"] + 1.0
    save_model(saved.directory, saved.params, saved.config, **fields)
    assert "model-index" not in card_of(saved) and "## Scores" not in card_of(saved)
    assert not (saved.directory / "scores.json").exists()


def test_a_head_without_a_pipeline_has_a_table_only(tmp_path):
    saved = load_model(save_tiny(tmp_path / "model", "keep_all", head=hotpot(3)))
    row = DENSE | {"metric": "joint_f1", "unit": "questions", "task": 'a "task": [x]\nname'}
    write_scores({"dense": saved}, results_record([row], command=COMMAND), log=print)
    assert "| test | 1,200 | 81.2 | 1.00x |" in card_of(saved)
    assert "model-index" not in card_of(saved)


def test_names_are_quoted_for_yaml(models):
    row = PRUNED | {"task": 'a "task": [x]\nname #1'}
    write_scores(models, results_record([row], command=COMMAND), log=print)
    data = ModelCard.load(models["adapler"].directory / "README.md").data
    assert data.eval_results[0].dataset_name == row["task"]


def test_a_name_outside_of_the_basic_plane_is_read(models):
    write_scores(
        models,
        results_record([PRUNED | {"task": "a \N{GRINNING FACE}"}], command=COMMAND),
        log=print,
    )
    data = ModelCard.load(models["adapler"].directory / "README.md").data
    assert data.eval_results[0].dataset_name == "a \N{GRINNING FACE}"


def test_a_score_that_is_no_number_is_left_out_of_the_front_matter():
    assert hub_results([PRUNED | {"test_score": float("nan")}], "text-classification") == ""


def test_a_bar_in_a_name_stays_in_its_cell():
    record = {"command": COMMAND, "device": "a cpu", "date": "2026-11-29"}
    lines = score_section([PRUNED | {"split": "a|b"}], [PRUNED], record).splitlines()
    assert lines[-1].startswith("| a\\|b | 1,200 |")


def test_a_folder_that_cannot_be_written_is_told(models, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError("no permission")

    monkeypatch.setattr(score_card, "write_json", fail)
    notes = []
    write_scores(models, results_record([PRUNED], command=COMMAND), log=notes.append)
    assert notes == ["the scores of adapler are not in its card: no permission"]


def test_other_settings_remove_the_scores(models):
    saved = models["adapler"]
    write_scores(models, results_record([PRUNED], command=COMMAND), log=print)
    extra = saved.extra | {"other": 1}
    options = {"pruner_name": "adapler", "task": "reviews", "extra": extra}
    save_model(saved.directory, saved.params, saved.config, **options)
    assert "## Scores" not in card_of(saved) and not (saved.directory / "scores.json").exists()


@pytest.mark.parametrize("name", ["123", "null", "2024-01-01"])
def test_a_base_model_is_a_text_for_yaml(tmp_path, name):
    directory = save_tiny(tmp_path / "model", "adapler", extra={"base_model": name})
    assert ModelCard.load(directory / "README.md").data.base_model == name
