"""A reranker is trained from pairs with numbers, and made faster by its own scores."""

import json
import shutil

import numpy as np
import pytest

from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.certificate import Promise
from adapler_jax.inference.reranker import Reranker
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_scores import divide_pairs, hold_back
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import run_all
from adapler_jax.training.text_tasks import number_data
from adapler_jax.weights.save import load_model
from tests.training.runs import OWN_FILES, SMALL, silent, write_splits

pytestmark = pytest.mark.long
WORDS = np.array(["a", "film", "films", "."])
COLUMNS = {"text": "query", "text_pair": "document", "label": "relevance"}


def make_pairs(num_queries=24, num_documents=12, seed=3):
    """Return pairs and their relevance: 1 where the document is good, 0 where it is bad."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(num_queries):
        query = " ".join(rng.choice(WORDS, 1 + number // 6))
        for _ in range(num_documents):
            word, document = str(rng.choice(["good", "bad"])), rng.choice(WORDS, rng.integers(2, 6))
            document[rng.integers(len(document))] = word
            pair = query, " ".join(document)
            found[pair] = (*pair, float(word == "good"))
    return list(found.values())


def many_pairs():
    """Return pairs of 40 queries, enough for a compression."""
    return [row[:2] for row in make_pairs(num_queries=40, num_documents=20)]


def make_rows(seed):
    """Return the rows of a file."""
    return [dict(zip(COLUMNS.values(), row)) for row in make_pairs(seed=seed)]


@pytest.fixture(scope="module", name="config_of")
def _config_of(make_config, tmp_path_factory):
    """Return a function that builds the config of a run on the pairs."""
    source = write_splits(tmp_path_factory.mktemp("pairs"), make_rows)

    def build(**changes):
        fields = OWN_FILES | {
            "task": "custom_scores",
            "data__source": source,
            "data__columns": COLUMNS,
            "data__activation": "sigmoid",
            "data__metric": "ndcg@10",
        }
        return make_config(**(fields | changes))

    return build


@pytest.fixture(scope="module", name="workdir")
def _workdir(config_of, tmp_path_factory):
    """A finished run."""
    workdir = tmp_path_factory.mktemp("scores") / "run"
    run_all(config_of(), workdir, log=silent)
    return workdir


@pytest.fixture(scope="module", name="given")
def _given(workdir):
    """The directory of the fine-tuned model."""
    return workdir / "finetune" / "model"


def test_a_run_on_numbers_learns_an_order_and_is_evaluated_by_it(workdir):
    dense, *others = evaluate_workdir(workdir, log=silent, with_times=False)
    assert dense["metric"] == "ndcg@10" and dense["test_score"] > 0.8
    assert [row["method"] for row in others] == ["adapler", "adapt-1.3x"]
    for row in others:
        assert -1 <= row["kendall_tau"] <= 1 and 0 <= row["top10_overlap"] <= 1
        assert row["difference_se"] >= 0 and "majority_share" not in row
    assert others[1]["flops_speedup"] == pytest.approx(1.3, rel=0.1)


def test_calibrated_models_of_a_run_are_scored_at_budgets(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    directory = copy / "adapt-1.3x" / "model"
    calibrate_model(directory, many_pairs(), budgets=(0.5, 0.75, 1.0))
    rows = evaluate_workdir(copy, log=silent, with_times=False, budgets=(0.5, 1.0))
    fast, slow = (row for row in rows if row.get("budget") is not None)
    assert (fast["method"], slow["method"]) == ("adapt-1.3x at 0.5", "adapt-1.3x at 1")
    assert fast["flops_speedup"] > slow["flops_speedup"]
    for row in (fast, slow):
        assert -1 <= row["kendall_tau"] <= 1 and 0 <= row["top10_overlap"] <= 1
        assert row["metric"] == "ndcg@10" and row["difference_se"] >= 0
        assert row["difference"] == pytest.approx(row["test_score"] - row["dense_score"])


def test_the_models_of_a_run_are_rerankers(workdir, given):
    pairs = [row[:2] for row in make_pairs(seed=2)]
    labels = np.array([row[2] for row in make_pairs(seed=2)])
    for directory in (given, workdir / "adapt-1.3x" / "model"):
        reranker = Reranker.load(directory)
        assert reranker.activation == "sigmoid"
        scores = reranker.predict(pairs)
        assert scores[labels == 1].mean() > scores[labels == 0].mean()


def test_a_second_run_keeps_the_activation_of_its_start(config_of, given):
    config = config_of(model=str(given), data__activation="", finetune__num_epochs=0)
    task = number_data(config, given, ("validation",))
    assert dict(task.head.factory_kwargs)["activation"] == "sigmoid"
    assert any("numbers from 0 to 1" in note for note in task.notes)
    with config.unlocked():
        config.reinit_head = True
    fresh = number_data(config, given, ("validation",))
    assert dict(fresh.head.factory_kwargs)["activation"] == "identity"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__activation": "tanh"}, "activation is 'tanh'; expected identity or sigmoid"),
        ({"data__metric": "accuracy"}, "unknown metric of numbers 'accuracy'"),
        ({"data__class_names": ("a", "b")}, "class_names is given, but task 'custom_scores'"),
        (
            {"data__columns": COLUMNS | {"label": "document"}},
            r"row 1 has the label '.*'; expected a number; correct the row, or name the column",
        ),
        ({"class_weight": "balanced"}, "config.class_weight is of classes"),
        ({"data__list_size": 1}, "list_size is 1; expected 2 documents or more, or 0"),
        (
            {"data__list_size": 6},
            r"batch_size is [0-9]+, which cuts lists of config.data",
        ),
        (
            {"data__list_size": 4, "data__metric": "spearman"},
            "metric is 'spearman', but scores that are trained on lists compare within a query",
        ),
        (
            {
                "data__list_size": 2,
                "data__metric": "spearman",
                "data__columns": {"text": "document", "label": "relevance"},
            },
            "list_size is 2, but task 'custom_scores' has no pairs of a query",
        ),
        (
            {"data__columns": {"text": "document", "label": "relevance"}},
            "'ndcg@10', which orders the documents of a query .* has single texts",
        ),
    ],
)
def test_wrong_fields_are_named(config_of, given, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_all(config_of(**changes), tmp_path / "run", log=silent)


def test_a_run_on_lists_learns_an_order(config_of, tmp_path):
    notes = []
    config = config_of(data__list_size=4, data__activation="identity", data__metric="")
    run_all(config, tmp_path / "run", log=notes.append)
    assert any("lists of 4 documents of a query, each with a relevant" in note for note in notes)
    rows = evaluate_workdir(tmp_path / "run", log=silent, with_times=False)
    assert rows[0]["metric"] == "ndcg@10" and rows[0]["test_score"] > 0.8
    assert rows[2]["flops_speedup"] == pytest.approx(1.3, rel=0.1)
    assert len(Reranker.load(tmp_path / "run" / "adapt-1.3x" / "model").rank("a", ["good"])) == 1


def test_numbers_outside_of_a_sigmoid_are_named(config_of, given, tmp_path):
    rows = [{"query": n // 2 * "a ", "document": "film", "relevance": 3} for n in range(2, 22)]
    (tmp_path / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = config_of(data__source=f"file:{tmp_path}", data__split_fractions={"validation": 5})
    with pytest.raises(ValueError, match="has the number 3; a sigmoid gives numbers from 0 to 1"):
        number_data(config, given, ("train",))


@pytest.fixture(scope="module", name="compressed")
def _compressed(given, tmp_path_factory):
    """The directory of a compression with a promise, its calibration and its notes."""
    out, notes = tmp_path_factory.mktemp("compressed") / "out", []
    options = SMALL._replace(promise=Promise(0.3, min_shared=8))
    found = compress(given, many_pairs(), out, options=options, log=notes.append)
    return out, found, notes


def test_a_reranker_is_made_faster_by_its_own_scores(given, compressed):
    out, calibration, notes = compressed
    assert any(note.startswith("kept: ") for note in notes)
    assert any("Kendall's tau over" in note for note in notes)
    found, full = Reranker.load(out / "model"), Reranker.load(given)
    assert load_model(out / "model").pruner_name in ("attention", "vocabulary", "adapler")
    assert np.corrcoef(found.predict(many_pairs()), full.predict(many_pairs()))[0, 1] > 0.5
    rows = [json.loads(line) for line in (out / "texts" / "train.jsonl").read_text().splitlines()]
    expected = full.predict([(row["text"], row["text_pair"]) for row in rows])
    np.testing.assert_allclose([row["label"] for row in rows], expected, atol=1e-6)
    again = []
    options = SMALL._replace(promise=Promise(0.3, min_shared=8))
    assert compress(given, many_pairs(), out, options=options, log=again.append) == calibration
    assert not any(note.startswith("predicting ") for note in again)
    with pytest.raises(ValueError, match="has work on other texts"):
        compress(given, many_pairs()[:-40], out, options=SMALL, log=silent)


def test_a_promise_is_about_queries_that_nothing_was_trained_on(compressed):
    out, calibration, notes = compressed
    seen = {
        json.loads(line)["text"]
        for split in ("train", "validation")
        for line in (out / "texts" / f"{split}.jsonl").read_text().splitlines()
    }
    rest, held_back = hold_back(many_pairs(), None)
    held = {query for query, _ in held_back}
    assert seen == {query for query, _ in rest} and not seen & held
    assert calibration.queries["num_queries"] == round(0.8 * len(held))
    assert calibration.queries["min_shared"] == 8
    if calibration.certificate is None:
        assert "no budget can be certified" in notes
    else:
        assert any("share at least 8 with the full model's for at least 70%" in n for n in notes)
    model = Reranker.load(out / "model")
    assert model.calibration == calibration
    fast, full = (model.predict(many_pairs()[:30], budget=b) for b in (calibration.budgets[0], 1.0))
    assert np.abs(fast - full).max() > 0


def test_more_pairs_of_a_judged_or_held_back_query_are_left_out(given, tmp_path):
    rest, held_back = hold_back(many_pairs(), None)
    parts = divide_pairs(rest)
    found = parts["validation"], held_back, parts["train"]
    more = [(queries[0][0], f"a good film of note {n}") for n, queries in enumerate(found)]
    options = SMALL._replace(more_texts=more, train=False, speedup=1.05)
    compress(given, iter(many_pairs()), tmp_path / "out", options=options, log=silent)
    lines = (tmp_path / "out" / "texts" / "train.jsonl").read_text().splitlines()
    trained = [(row["text"], row["text_pair"]) for row in map(json.loads, lines)]
    assert [pair in trained for pair in more] == [False, False, True]


def test_a_metric_of_orders_needs_several_documents_of_a_query(config_of, tmp_path, given):
    rows = [{"query": f"a {n * 'a '}", "document": "film", "relevance": n % 2} for n in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = config_of(data__source=f"file:{tmp_path}", data__split_fractions={"validation": 5})
    with pytest.raises(ValueError, match="each first text of validation is in one row"):
        number_data(config, given, ("train",))


def test_classes_have_no_activation(make_config, tmp_path):
    with pytest.raises(ValueError, match="activation is given, but task 'custom' has classes"):
        run_all(make_config(data__activation="sigmoid"), tmp_path / "run", log=silent)


def test_a_query_is_trained_on_or_compares_models():
    pairs = [row[:2] for row in make_pairs()]
    parts = divide_pairs(pairs)
    queries = [{query for query, _ in parts[split]} for split in ("train", "validation")]
    assert not queries[0] & queries[1] and len(queries[1]) == round(
        0.2 * len(set().union(*queries))
    )
    assert sorted(parts["train"] + parts["validation"]) == sorted(pairs)
    assert divide_pairs(pairs) == parts


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        (["a text"] * 200, SMALL, "there are 1 different texts; .* at least 100"),
        ([("a", "b")] * 200 + [("a", None)], SMALL, r"text 200 is \('a', None\)"),
        (
            [("a", str(number)) for number in range(333)],
            SMALL,
            "333 different pairs; .* 334",
        ),
        (
            [("a", str(number)) for number in range(334)],
            SMALL,
            "the pairs have 1 queries, and 1",
        ),
        (
            [(str(n % 5), str(n)) for n in range(400)],
            SMALL,
            "the pairs of 30% of the queries, which calibrate, are 80 different ones; .* 100",
        ),
        (
            [(str(n % 5), str(n)) for n in range(600)],
            SMALL,
            "which calibrate, have 1 queries, and 0 of them with 0 pairs are set apart",
        ),
        (
            [(f"{n % 40}", str(n)) for n in range(800)],
            SMALL._replace(promise=Promise(0.05)),
            "10 queries of 12 documents or more .* at least 59, so give 246 such queries: 24%",
        ),
        (
            [(f"{n % 40}", str(n)) for n in range(800)],
            SMALL._replace(promise=Promise(0.3, needs_labels=True)),
            "leave out --label and --max_drop",
        ),
        (
            [("a", "b")],
            SMALL._replace(latency=object()),
            "latency is for classifiers, and the model is a reranker",
        ),
        ([("a", "b")], SMALL._replace(labels=["x"]), "labels is for classifiers"),
    ],
)
def test_pairs_that_cannot_be_used_are_named(given, tmp_path, pairs, options, message):
    with pytest.raises(ValueError, match=message):
        compress(given, pairs, tmp_path / "out", options=options, log=silent)
    assert not (tmp_path / "out").exists()
