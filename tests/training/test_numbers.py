"""Models of one or several numbers of single texts are trained, made faster and evaluated."""

import json

import numpy as np
import pytest

from adapler_jax.evaluation.score_tables import number_rows, title_of
from adapler_jax.inference.reranker import Regressor
from adapler_jax.io.records import results_record, write_json
from adapler_jax.report.page import write_report
from adapler_jax.training.compress import compress
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import run_all
from adapler_jax.training.text_tasks import number_data
from adapler_jax.weights.save import load_model
from tests.training.runs import OWN_FILES, RUNS, SMALL, silent, write_splits

pytestmark = pytest.mark.long
WORDS = {"good": "joy", "bad": "fear"}  # the word that a number is read from


def make_texts(num_texts=200, seed=0):
    """Return texts and their two numbers: 1 for each of two words that a text has, else 0."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num_texts):
        words = list(rng.choice(["a", "film", "films", "."], rng.integers(2, 6)))
        present = [word for word in WORDS if rng.random() < 0.5]
        for word in present:
            words.insert(rng.integers(len(words) + 1), word)
        found.append((" ".join(words), [float(word in present) for word in WORDS]))
    return found


def make_rows(seed):
    """Return the rows of a file, with the numbers in a list and in a column each."""
    return [
        {"text": text, "both": numbers, **dict(zip(WORDS.values(), numbers))}
        for text, numbers in make_texts(seed=seed)
    ]


@pytest.fixture(scope="module", name="config_of")
def _config_of(make_config, tmp_path_factory):
    """Return a function that builds the config of a run on the texts."""
    source = write_splits(tmp_path_factory.mktemp("texts"), make_rows)

    def build(**changes):
        fields = OWN_FILES | {
            "task": "custom_scores",
            "data__source": source,
            "data__columns": {"label": ("joy", "fear")},
            "data__activation": "sigmoid",
            "finetune__num_epochs": 12,
        }
        fields |= changes
        return make_config(**{name: value for name, value in fields.items() if value is not None})

    return build


@pytest.fixture(scope="module", name="workdir")
def _workdir(config_of, tmp_path_factory):
    """A finished run on two numbers."""
    workdir = tmp_path_factory.mktemp("numbers") / "run"
    run_all(config_of(), workdir, log=silent)
    return workdir


@pytest.fixture(scope="module", name="single")
def _single(config_of, tmp_path_factory):
    """A finished run on one number."""
    workdir = tmp_path_factory.mktemp("single") / "run"
    run_all(config_of(data__columns={"label": "joy"}), workdir, log=silent)
    return workdir


def test_a_run_learns_several_numbers_and_is_evaluated_by_their_correlation(workdir, tmp_path):
    dense, *others = evaluate_workdir(workdir, log=silent, with_times=False, with_classes=True)
    assert dense["metric"] == "spearman" and dense["test_score"] > 0.7 and dense["mse"] < 0.2
    scores = {entry["name"]: entry["score"] for entry in dense["numbers"]}
    assert tuple(scores) == ("joy", "fear") and min(scores.values()) > 0.5
    assert np.mean(list(scores.values())) == pytest.approx(dense["test_score"])
    assert [row["method"] for row in others] == ["adapler", "adapt-1.3x"]
    for row in others:
        assert -1 <= row["kendall_tau"] <= 1 and row["difference_se"] >= 0
        assert "top10_overlap" not in row and "majority_share" not in row
    assert others[1]["flops_speedup"] == pytest.approx(1.3, rel=0.1)
    record = results_record([dense, *others], command="adapler evaluate")
    write_json(workdir / "evaluation.json", record, checksum=True)
    page = write_report(workdir, tmp_path / "report.html", num_examples=0, log=silent)
    assert "Each number" in page.read_text() and "order of all texts" in page.read_text()
    assert "ten" not in title_of([dense, *others]) and len(number_rows([dense, *others])) == 2
    for phase in ("finetune", "adapt-1.3x"):
        model = Regressor.load(workdir / phase / "model")
        assert model.output_names == ("joy", "fear") and model.activation == "sigmoid"
    texts, numbers = zip(*make_texts(seed=2))
    numbers = np.array(numbers)
    found = model.predict(texts)
    assert all(found[numbers[:, c] == 1, c].mean() > found[:, c].mean() for c in range(2))


def test_one_number_of_single_texts_is_learned_too(single):
    dense, *others = evaluate_workdir(single, log=silent, with_times=False)
    assert dense["metric"] == "spearman" and dense["test_score"] > 0.7
    assert all(-1 <= row["kendall_tau"] <= 1 for row in others)
    saved = load_model(single / "adapt-1.3x" / "model")
    assert saved.extra["single_texts"] is True and saved.class_names == ()
    assert Regressor.load(saved.directory).predict(["a good film", "bad"]).shape == (2,)


def test_another_method_trains_on_several_numbers(config_of, tmp_path):
    changes = RUNS["trbert"].changes | {"finetune__num_epochs": 1}
    config = config_of(module=RUNS["trbert"].module, adapt__target_speedups=None, **changes)
    run_all(config, tmp_path / "run", log=silent)
    dense, row = evaluate_workdir(tmp_path / "run", log=silent, with_times=False)
    assert row["method"] == "trbert" and -1 <= row["test_score"] <= 1
    assert row["kept_tokens"] != dense["kept_tokens"]


def test_a_list_of_numbers_continues_with_the_names_of_its_start(workdir, config_of):
    given = workdir / "finetune" / "model"
    config = config_of(
        model=str(given), data__columns={"label": "both"}, data__activation="", reinit_head=False
    )
    task = number_data(config, given, ("validation",), saved_names=("joy", "fear"))
    assert task.class_names == ("joy", "fear")
    assert dict(task.head.factory_kwargs) == {
        "activation": "sigmoid",
        "protects_query": False,
        "num_outputs": 2,
    }
    assert task.splits["validation"].head_slots["number_BC"].dtype == np.float32
    assert "data: 2 numbers a text, in 200 train, 200 validation, 200 test texts" in task.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__metric": "ndcg@10"}, "'ndcg@10', which orders .* single texts; choose pearson or"),
        (
            {"data__metric": "map", "data__columns": {"text_pair": "text", "label": "both"}},
            "'map', which orders .* several numbers a text; choose pearson or spearman",
        ),
        ({"data__protects_query": True}, "protects_query is set, .* has single texts"),
        ({"data__columns": {"label": ("joy", "joy")}}, "columns.label names 'joy' twice"),
        ({"data__class_names": ("a", "b", "c")}, "names a, b, c, and the first text .* has 2"),
        (
            {"data__columns": {"label": "joy"}, "data__class_names": ("a",)},
            "class_names is given, but task 'custom_scores' has one number a text",
        ),
        ({"class_weight": "balanced"}, "config.class_weight is of classes"),
    ],
)
def test_wrong_fields_are_named(config_of, workdir, changes, message):
    with pytest.raises(ValueError, match=message):
        config = config_of(**changes)
        run_all(config, workdir.parent / "wrong", log=silent)


def test_numbers_outside_of_a_sigmoid_are_named(config_of, workdir, tmp_path):
    rows = [{"text": n * "a ", "label": [0.5, 3]} for n in range(2, 22)]
    (tmp_path / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = config_of(
        data__source=f"file:{tmp_path}",
        data__columns={},
        data__split_fractions={"validation": 5},
    )
    with pytest.raises(ValueError, match="has the number 3; a sigmoid gives numbers from 0 to 1"):
        number_data(config, workdir / "finetune" / "model", ("train",))


@pytest.mark.parametrize("kind", ["workdir", "single"])
def test_a_model_is_compressed_by_its_own_numbers(kind, request, tmp_path):
    given, notes = request.getfixturevalue(kind) / "finetune" / "model", []
    texts = [text for text, _ in make_texts(300, seed=5)]
    options = SMALL._replace(train=kind == "workdir")
    assert compress(given, texts, tmp_path, options=options, log=notes.append) is None
    assert sum("% Kendall's tau" in note for note in notes) >= 1 + options.train
    assert any("there will be no budgets" in note for note in notes)
    full, fast = (Regressor.load(tmp_path / name) for name in ("full", "model"))
    assert full.output_names == fast.output_names == Regressor.load(given).output_names
    test = [text for text, _ in make_texts(100, seed=9)]
    expected, found = full.predict(test), fast.predict(test)
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.5
    assert np.abs(expected - found).max() > 0.0
    lines = (tmp_path / "texts" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    labels = full.predict([row["text"] for row in rows])
    np.testing.assert_allclose([row["label"] for row in rows], labels, atol=1e-6)
    assert load_model(tmp_path / "model").extra["single_texts"] is True
    for name, value in (("labels", [1.0]), ("protects_query", True)):
        options = SMALL._replace(**{name: value})
        with pytest.raises(ValueError, match=f"{name} is for classes and scores of pairs"):
            compress(given, texts, tmp_path / "other", options=options, log=silent)
