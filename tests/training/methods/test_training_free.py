"""Methods without training are methods like the others: run, saved, evaluated, exported."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapler_jax.export.jax_export import export_model
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import Engine
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import check_config, run_all
from adapler_jax.weights.save import load_model
from configs import attention, vocabulary
from tests.training.runs import silent

pytestmark = pytest.mark.long

CONFIGS = {"attention": attention, "vocabulary": vocabulary}
TEXTS = ["a good film", "bad ." * 5, "good films . " * 4, "a"]


@pytest.fixture(scope="module", name="runs")
def _runs(copied_run, make_config, tmp_path_factory):
    """Return the workdir and the notes of one run of each method."""
    model, made = copied_run("learned") / "finetune" / "model", {}
    for name, module in CONFIGS.items():
        changes = {"model": str(model), f"{name}__target_speedups": (1.3, 50.0)}
        config = make_config("finetuned", module=module, **changes)
        notes, workdir = [], tmp_path_factory.mktemp("runs") / name
        run_all(config, workdir, log=notes.append)
        made[name] = workdir, notes, config
    return made


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_has_a_model_for_each_target_in_reach(runs, name):
    workdir, notes, _ = runs[name]
    saved = load_model(workdir / f"{name}-1.3x" / "model")
    assert saved.pruner_name == name
    assert phases.read_done(workdir / f"{name}-1.3x")["validation"]["flops_speedup"] > 1.2
    assert not (workdir / f"{name}-50x" / "model").exists()
    assert any(f"{name}-50x: 50x is out of reach" in note for note in notes)
    rows = evaluate_workdir(workdir, log=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", f"{name}-1.3x"]
    assert rows[1]["flops_speedup"] == pytest.approx(1.3, rel=0.1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_second_call_changes_nothing(runs, name):
    workdir, _, config = runs[name]
    before = load_model(workdir / f"{name}-1.3x" / "model").params["pruner"]
    notes = []
    run_all(config, workdir, log=notes.append)
    assert f"{name}-1.3x: finished before" in notes
    after = load_model(workdir / f"{name}-1.3x" / "model").params["pruner"]
    for leaf, value in before.items():
        np.testing.assert_array_equal(after[leaf], value)


@pytest.mark.parametrize("name", CONFIGS)
def test_exported_programs_give_equal_answers(runs, name):
    directory = runs[name][0] / f"{name}-1.3x" / "model"
    expected = Classifier.load(directory, driver="masked").predict(TEXTS)
    export_model(directory, buckets=(16,), driver="packed")
    exported = Classifier.load(directory, programs=True, buckets=(16,), driver="packed")
    assert not isinstance(exported.run, Engine)
    for one, wanted in zip(exported.predict(TEXTS), expected, strict=True):
        assert one.label == wanted.label
        assert one.probability == pytest.approx(wanted.probability, abs=1e-5)
        assert one.num_tokens == wanted.num_tokens
    first, *_, last = np.sum([one.num_tokens for one in expected], axis=0)
    assert last < first if name == "attention" else last == first


@pytest.mark.parametrize("name", CONFIGS)
def test_an_explanation_has_scores_and_dropped_tokens(runs, name):
    directory = runs[name][0] / f"{name}-1.3x" / "model"
    found = Classifier.load(directory).explain(TEXTS[2])
    assert 0 < found.keep_NL[-1].sum() < len(found.tokens)
    assert found.score_NL[0].max() > 0


def test_a_table_of_another_vocabulary_is_named(runs, tmp_path):
    source = runs["vocabulary"][0] / "vocabulary-1.3x" / "model"
    for path in source.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["vocabulary.saliency"] = tensors["vocabulary.saliency"][:, :-1]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"vocabulary\.saliency"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("speedups", "message"),
    [((), "is empty; give a speedup"), ((0.5,), "expected factors of 1 or more")],
)
def test_targets_that_are_none_are_rejected(make_config, name, speedups, message):
    config = make_config(module=CONFIGS[name], **{f"{name}__target_speedups": speedups})
    with pytest.raises(ValueError, match=message):
        check_config(config)
