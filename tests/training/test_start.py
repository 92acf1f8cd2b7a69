"""A run keeps class names and the decision threshold of the model that it starts from."""

import json
import pathlib

import pytest

from adapler_jax.metrics.classification import THRESHOLD
from adapler_jax.pruning import keep_all
from adapler_jax.training import phases
from adapler_jax.training.methods import finetune
from adapler_jax.training.setup import load_run_context
from adapler_jax.training.task_data import load_task_data
from adapler_jax.weights.save import load_model
from tests.training.conftest import write_checkpoint


def prepared(config):
    """Return the context of a config, and what it reports."""
    lines = []
    return load_run_context(config, log=lines.append), lines


@pytest.fixture(name="start", scope="module")
def _start(tmp_path_factory):
    """A function that writes a checkpoint of bad and good with a decision threshold."""

    def write(threshold):
        model = tmp_path_factory.mktemp("start") / "model"
        write_checkpoint(model)
        path = model / "config.json"
        raw = json.loads(path.read_text())
        raw["adapler_jax"]["extra"][THRESHOLD] = threshold
        path.write_text(json.dumps(raw))
        return str(model)

    return write


@pytest.mark.parametrize("variant", ["", "finetuned"])
def test_names_of_the_checkpoint_are_kept_where_the_data_numbers_its_classes(
    variant, make_config, tmp_path
):
    config = make_config(variant, data__class_names=())
    context, lines = prepared(config)
    assert context.task.class_names == ("0", "1") and context.class_names == ("bad", "good")
    assert any("taken in the checkpoint's order: 0 is bad, 1 is good" in line for line in lines)
    params = context.pretrained | {"pruner": {}}
    phases.save_phase_model(tmp_path, context, params, keep_all())
    saved = load_model(tmp_path / "model")
    assert saved.class_names == ("bad", "good")
    task = load_task_data(config, tmp_path / "model", only=("test",), saved_names=saved.class_names)
    assert task.class_names == saved.class_names
    assert task.splits["test"].labels.max() == 1
    before = load_task_data(config, tmp_path / "model", only=("test",), saved_names=("0", "1"))
    assert before.class_names == ("0", "1")


@pytest.mark.parametrize("reinit_head", [False, True])
def test_the_pooler_of_a_sentence_encoder_is_told(start, make_config, reinit_head):
    model = start(0.5)
    (pathlib.Path(model) / "modules.json").write_text('[{"type": "Pooling"}]')
    _, lines = prepared(make_config(model=model, reinit_head=reinit_head))
    told = [line for line in lines if "--config.reinit_head=True starts it afresh" in line]
    assert len(told) == (not reinit_head)


def test_names_that_a_config_gives_are_the_names(make_config):
    context, _ = prepared(make_config(data__class_names=("0", "1")))
    assert context.class_names == ("0", "1")


@pytest.mark.parametrize(("names", "expected"), [((), 0.25), (("good", "bad"), 0.75)])
def test_a_decision_threshold_is_kept_in_the_dense_model(
    names, expected, start, make_config, monkeypatch, tmp_path
):
    config = make_config("finetuned", model=start(0.25), data__class_names=names)
    context, lines = prepared(config)
    assert any("threshold 0.25 is kept in the dense model; pruned" in line for line in lines)
    used = []

    def validate(params, context, pruner, batches, scorer):
        used.append(scorer._threshold)
        return {"score": 0.5}

    monkeypatch.setattr(finetune, "validate", validate)
    finetune.keep_finetuned(tmp_path / "finetune", context, config)
    saved = load_model(tmp_path / "finetune" / "model")
    assert saved.extra[THRESHOLD] == expected and used == [expected]


def test_a_decision_threshold_is_left_out_with_a_note_where_training_follows(start, make_config):
    context, lines = prepared(make_config(model=start(0.25)))
    assert context.decision_threshold is None
    assert any("threshold 0.25 of" in line and "is left out" in line for line in lines)


def test_a_decision_threshold_out_of_range_names_its_file(start, make_config):
    with pytest.raises(ValueError, match=r"config.json: extra.decision_threshold: .*1.5"):
        load_run_context(make_config("finetuned", model=start(1.5)), log=print)
