"""A model of several labels a text is trained, made faster and evaluated."""

import json

import numpy as np
import pytest

from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.training.compress import compress
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import run_all
from adapler_jax.weights.save import load_model
from tests.training.runs import OWN_FILES, SMALL, silent, write_splits

pytestmark = pytest.mark.long
LABELS = {"good": "nice", "bad": "poor"}  # the word that a label is read from


def make_texts(num_texts=200, seed=0):
    """Return texts and their labels: one for each of two words that a text has."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num_texts):
        words = list(rng.choice(["a", "film", "films", "."], rng.integers(2, 6)))
        present = [word for word in LABELS if rng.random() < 0.5]
        for word in present:
            words.insert(rng.integers(len(words) + 1), word)
        found.append((" ".join(words), [LABELS[word] for word in present]))
    return found


def make_rows(seed):
    """Return the rows of a file."""
    return [{"text": text, "label": labels} for text, labels in make_texts(seed=seed)]


@pytest.fixture(scope="module", name="config_of")
def _config_of(make_config, tmp_path_factory):
    """Return a function that builds the config of a run on the texts."""
    source = write_splits(tmp_path_factory.mktemp("texts"), make_rows)

    def build(**changes):
        fields = OWN_FILES | {
            "task": "custom_multi_label",
            "data__source": source,
            "data__metric": "macro_f1",
            "finetune__num_epochs": 6,
        }
        return make_config(**(fields | changes))

    return build


@pytest.fixture(scope="module", name="workdir")
def _workdir(config_of, tmp_path_factory):
    """A finished run."""
    workdir = tmp_path_factory.mktemp("labels") / "run"
    run_all(config_of(), workdir, log=silent)
    return workdir


def test_a_run_learns_labels_and_is_evaluated_by_their_f1(workdir):
    dense, *others = evaluate_workdir(workdir, log=silent, with_times=False, with_classes=True)
    assert dense["metric"] == "macro_f1" and dense["test_score"] > 0.85
    assert [entry["name"] for entry in dense["classes"]] == ["nice", "poor"]
    assert [row["method"] for row in others] == ["adapler", "adapt-1.3x"]
    for row in (dense, *others):
        assert 0 < row["micro_f1"] <= 1 and 0 < row["exact_match"] <= 1
        assert "majority_share" not in row and THRESHOLDS not in row
    assert others[1]["flops_speedup"] == pytest.approx(1.3, rel=0.1)
    assert others[1]["difference_se"] >= 0


def test_models_of_a_run_have_the_thresholds_of_validation(workdir):
    texts = make_texts(seed=2)
    for phase in ("finetune", "adapt-1.3x"):
        directory = workdir / phase / "model"
        model = MultiLabelClassifier.load(directory)
        assert model.class_names == ("nice", "poor")
        assert model.thresholds == tuple(load_model(directory).extra[THRESHOLDS])
        assert model.thresholds != (0.5, 0.5)
    found = [set(prediction.labels) for prediction in model.predict([text for text, _ in texts])]
    assert np.mean([labels == set(right) for labels, (_, right) in zip(found, texts)]) > 0.5


def test_a_finetuned_model_keeps_its_labels_and_thresholds(workdir, config_of, tmp_path):
    given = workdir / "finetune" / "model"
    config = config_of(
        model=str(given),
        reinit_head=False,
        finetune__num_epochs=0,
        data__class_names=("poor", "nice"),
        method="finetune",
        adapt__target_speedups=(),
    )
    run_all(config, tmp_path / "run", log=silent)
    saved = load_model(tmp_path / "run" / "finetune" / "model")
    before = load_model(given)
    assert saved.class_names == ("poor", "nice")
    assert saved.extra[THRESHOLDS] == before.extra[THRESHOLDS][::-1]
    for name in ("kernel", "bias"):
        own, old = (model.params["head"]["classifier"][name] for model in (saved, before))
        np.testing.assert_array_equal(own, old[..., ::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__metric": "accuracy"}, "for several labels a text there are micro_f1"),
        (
            {"data__activation": "sigmoid"},
            "data.activation is given, but task",
        ),
        ({"class_weight": "balanced"}, "config.class_weight is of classes"),
    ],
)
def test_fields_of_other_tasks_are_named(config_of, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_all(config_of(**changes), tmp_path / "run", log=silent)


def test_a_model_of_labels_is_compressed_by_its_own_labels(workdir, tmp_path):
    given, notes = workdir / "finetune" / "model", []
    texts = [text for text, _ in make_texts(300, seed=5)]
    assert compress(given, texts, tmp_path, options=SMALL, log=notes.append) is None
    assert any("equal answers" in note for note in notes)
    full, fast = (MultiLabelClassifier.load(tmp_path / name) for name in ("full", "model"))
    assert full.thresholds == MultiLabelClassifier.load(given).thresholds
    test = [text for text, _ in make_texts(100, seed=9)]
    pairs = zip(full.predict(test), fast.predict(test), strict=True)
    equal, tokens = zip(*((a.labels == b.labels, sum(b.num_tokens)) for a, b in pairs))
    assert np.mean(equal) > 0.6
    assert sum(tokens) < sum(sum(a.num_tokens) for a in full.predict(test))
    lines = (tmp_path / "texts" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(set(row["label"]) <= {"nice", "poor"} for row in rows)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    compress(given, texts, tmp_path, options=SMALL, log=silent)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    for name, value in (("labels", ["nice"]), ("protects_query", True)):
        options = SMALL._replace(**{name: value})
        with pytest.raises(ValueError, match=f"{name} is for classes and scores"):
            compress(given, texts, tmp_path / "other", options=options, log=silent)
