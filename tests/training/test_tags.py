"""A model of tags is trained, with and without dropped tokens, and evaluated."""

import json

import numpy as np
import pytest

from adapler_jax.evaluation.score_tables import score_rows
from adapler_jax.inference.token_classifier import TokenClassifier
from adapler_jax.io.records import results_record, write_json
from adapler_jax.report.page import write_report
from adapler_jax.training.compress import compress
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import run_all
from adapler_jax.weights.save import load_model
from tests.training.runs import OWN_FILES, silent, write_splits

pytestmark = pytest.mark.long
TAGS = ("O", "B-NICE", "I-NICE", "B-POOR")


def make_sentences(num=200, seed=0):
    """Return sentences: good begins an entity, which films after it continue, and bad is one."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        words = rng.choice(["a", "film", "films", ".", "good", "bad"], rng.integers(2, 8)).tolist()
        tags = []
        for word in words:
            continues = word.startswith("film") and bool(tags) and tags[-1].endswith("NICE")
            tags.append(
                {"good": "B-NICE", "bad": "B-POOR"}.get(word, "I-NICE" if continues else "O")
            )
        found.append((words, tags))
    return found


def make_rows(seed):
    """Return the rows of a file."""
    return [{"tokens": words, "ner": tags} for words, tags in make_sentences(seed=seed)]


@pytest.fixture(scope="module", name="config_of")
def _config_of(make_config, tmp_path_factory):
    """Return a function that builds the config of a run on the sentences."""
    source = write_splits(tmp_path_factory.mktemp("sentences"), make_rows)

    def build(**changes):
        fields = OWN_FILES | {
            "task": "custom_tokens",
            "data__source": source,
            "data__columns": {"words": "tokens", "tags": "ner"},
            "finetune__num_epochs": 8,
        }
        return make_config(**(fields | changes))

    return build


@pytest.fixture(scope="module", name="workdir")
def _workdir(config_of, tmp_path_factory):
    """A finished run of AdapLeR."""
    workdir = tmp_path_factory.mktemp("tags") / "run"
    run_all(config_of(), workdir, log=silent)
    return workdir


def test_a_run_learns_tags_and_is_evaluated_by_their_entities(workdir, tmp_path):
    dense, *others = evaluate_workdir(workdir, log=silent, with_times=False, with_classes=True)
    assert dense["metric"] == "entity_f1" and dense["unit"] == "sentences"
    assert dense["test_score"] > 0.85 and dense["word_accuracy"] > 0.9
    assert [entry["name"] for entry in dense["classes"]] == ["NICE", "POOR"]
    assert [row["method"] for row in others] == ["adapler", "adapt-1.3x"]
    assert others[1]["flops_speedup"] == pytest.approx(1.3, rel=0.1)
    assert others[1]["difference_se"] >= 0 and others[1]["test_score"] > 0.5
    (first, *_) = score_rows([dense, *others])
    assert {"entity_f1", "word_accuracy"} <= first.keys()
    record = results_record([dense, *others], command="adapler evaluate")
    write_json(workdir / "evaluation.json", record, checksum=True)
    page = write_report(workdir, tmp_path / "report.html", num_examples=0, log=silent).read_text()
    assert "entity_f1" in page and "NICE" in page


def test_the_models_of_a_run_find_entities_with_dropped_tokens(workdir):
    sentences = make_sentences(seed=7)
    for phase in ("finetune", "adapt-1.3x"):
        directory = workdir / phase / "model"
        model = TokenClassifier.load(directory)
        assert model.class_names == TAGS and load_model(directory).task == "custom_tokens"
        found = model.predict([words for words, _ in sentences])
        pairs = [
            (tag["entity"], right)
            for tags, (_, rights) in zip(found, sentences, strict=True)
            for tag, right in zip(tags, rights, strict=True)
        ]
        assert np.mean([tag == right for tag, right in pairs]) > 0.7


def test_a_finetuned_model_keeps_its_tags(workdir, config_of, tmp_path):
    given = workdir / "finetune" / "model"
    source = tmp_path / "few.jsonl"
    few = [row for row in make_rows(3) if "B-POOR" not in row["ner"]]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in few))
    config = config_of(
        model=str(given),
        reinit_head=False,
        finetune__num_epochs=0,
        method="finetune",
        data__source=f"file:{source}",
        data__metric="word_accuracy",
        adapt__target_speedups=(),
    )
    run_all(config, tmp_path / "run", log=silent)
    saved, before = (load_model(path) for path in (tmp_path / "run" / "finetune" / "model", given))
    assert saved.class_names == before.class_names == TAGS
    for name in ("kernel", "bias"):
        own, old = (model.params["head"]["classifier"][name] for model in (saved, before))
        np.testing.assert_array_equal(own, old)
    (row,) = evaluate_workdir(tmp_path / "run", log=silent, with_times=False)
    assert row["metric"] == "word_accuracy" and row["test_score"] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__metric": "accuracy"}, "for tags of words there are entity_f1 and word_accuracy"),
        ({"data__activation": "sigmoid"}, "data.activation is given, but task"),
        ({"class_weight": "balanced"}, "config.class_weight is of classes"),
        ({"data__columns": {"words": "tokens"}}, "has no 'tags'; there are tokens, ner"),
    ],
)
def test_fields_of_other_tasks_are_named(config_of, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_all(config_of(**changes), tmp_path / "run", log=silent)


def test_commands_for_texts_name_what_they_do_not_do(workdir, tmp_path):
    given = workdir / "finetune" / "model"
    with pytest.raises(ValueError, match="gives tags to tokens, which this command does not make"):
        compress(given, ["a film"] * 3, tmp_path / "fast", log=silent)
    with pytest.raises(ValueError, match="has tags of words, whose models take no budgets"):
        evaluate_workdir(workdir, log=silent, with_times=False, budgets=(0.5,))
    with pytest.raises(ValueError, match="the task custom_tokens has tags of words: leave baselin"):
        evaluate_workdir(workdir, log=silent, with_times=False, baselines=("random",))
