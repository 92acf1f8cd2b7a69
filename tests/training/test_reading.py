"""Questions about texts in miniature: every method from files to answers."""

import json
import shutil

import numpy as np
import pytest

from adapler_jax.inference.multiple_choice import MultipleChoice
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.serving.run_examples import example_answers
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import check_config, run_all
from adapler_jax.weights.save import load_model
from configs import adapler, finetune, powerbert, trbert
from tests.tiny import assert_trees_equal

NOTES = []


def write_questions(path, num_rows, seed):
    """The answer is the word good or bad; where the text has neither, there is none."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for number in range(num_rows):
            words = [
                str(word) for word in rng.choice(["a", "film", "films", "."], rng.integers(3, 12))
            ]
            answer = ("good", "bad", "")[number % 3]
            if answer:
                words[int(rng.integers(len(words)))] = answer
            context = " ".join(words)
            answers = {"text": [answer], "answer_start": [context.index(answer)]} if answer else {}
            row = {
                "id": str(number),
                "question": "a film",
                "context": context,
                "answers": answers or {"text": [], "answer_start": []},
            }
            file.write(json.dumps(row) + "\n")


def write_choices(path, num_rows, seed):
    """The right option has the word good, at any position."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for number in range(num_rows):
            label = int(rng.integers(2))
            options = ["good", "bad"] if label == 0 else ["bad", "good"]
            row = {
                "id": str(number),
                "article": "a film .",
                "question": "film",
                "options": options,
                "label": label,
            }
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("reading")
    for name, write in (("span", write_questions), ("choice", write_choices)):
        (root / name).mkdir()
        for seed, (split, num_rows) in enumerate(
            {"train": 48, "validation": 24, "test": 18}.items()
        ):
            write(root / name / f"{split}.jsonl", num_rows, seed)
    return root


@pytest.fixture(scope="module")
def make_reading(tiny_files, folders):
    """Builds the config of a run on tiny questions."""

    def make(module, kind="span", **changes):
        config = module.get_config(f"custom_{kind},debug")
        config.model = str(tiny_files / "model")
        config.reinit_head = True
        config.data.source = f"file:{folders / kind}"
        config.data.cache_dir = "none"
        config.data.num_train_examples = 0
        config.data.max_length = 16
        config.data.bucket_lengths = (16,)
        config.qa.update({"doc_stride": 4, "max_question_tokens": 3, "max_option_tokens": 4})
        config.finetune.update({"learning_rate": 1e-2, "num_epochs": 4})
        config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in changes.items()}
        )
        return config.lock()

    return make


def run(config, workdir):
    run_all(config, workdir, log=NOTES.append)
    return workdir


@pytest.fixture(scope="module")
def pruned(make_reading, tmp_path_factory):
    """The workdir of AdapLeR on span questions."""
    config = make_reading(adapler, adapt__target_speedups=(1.5,))
    return run(config, tmp_path_factory.mktemp("runs") / "adapler")


@pytest.mark.long
def test_a_run_learns_where_answers_stand_and_when_there_is_none(pruned):
    scores = phases.read_done(pruned / "finetune")["validation"]
    assert scores["score"] == scores["f1"] > 0.7 > scores["no_ans_total"] / scores["total"]
    assert scores["has_ans_total"] == 16 and scores["no_ans_total"] == 8
    saved = load_model(pruned / "finetune" / "model")
    assert saved.head.name == "span" and saved.extra["no_answer_threshold"] == scores["threshold"]


@pytest.mark.long
def test_a_reader_that_is_fine_tuned_already_keeps_its_threshold(pruned, make_reading, tmp_path):
    shutil.copytree(pruned / "finetune" / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    content["adapler_jax"]["extra"]["no_answer_threshold"] = 3.25
    path.write_text(json.dumps(content))
    changes = {"model": str(tmp_path / "model"), "reinit_head": False, "finetune__num_epochs": 0}
    workdir = tmp_path / "run"
    run_all(make_reading(adapler, **changes), workdir, log=NOTES.append, last_phase="finetune")
    saved, start = load_model(workdir / "finetune" / "model"), load_model(tmp_path / "model")
    assert saved.extra["no_answer_threshold"] == 3.25
    assert_trees_equal(saved.params, start.params)


@pytest.mark.long
def test_evaluation_gives_the_scores_of_questions_and_both_speedups(pruned):
    dense, adapted = evaluate_workdir(pruned, log=NOTES.append, only="adapt-1.5x")
    name, answers = example_answers(pruned)
    assert name in ("adapler", "adapt-1.5x") and [question.id for question, _ in answers] == [
        "0",
        "1",
        "2",
    ]
    assert [row["method"] for row in (dense, adapted)] == ["dense", "adapt-1.5x"]
    for row in (dense, adapted):
        assert (
            row["metric"] == "f1"
            and 0.0 <= row["exact"] <= row["test_score"] <= 1.0
            and row["total"] == 18
        )
    assert adapted["flops_speedup"] > 1.2 and adapted["wall_speedup_32"] > 0


@pytest.mark.long
def test_a_reader_answers_as_the_run_scored(pruned, folders):
    (row, *_) = evaluate_workdir(pruned, log=NOTES.append, with_times=False)
    questions = [
        json.loads(line) for line in (folders / "span" / "test.jsonl").read_text().splitlines()
    ]
    reader = QuestionAnswerer.load(pruned / "finetune" / "model")
    answers = reader.answer_all(
        [(question["question"], question["context"]) for question in questions]
    )
    right = [
        answer.text in (question["answers"]["text"] or [""])
        for answer, question in zip(answers, questions)
    ]
    assert np.mean(right) == pytest.approx(row["exact"])
    for answer in answers:
        assert answer.text == answer.context[answer.start : answer.end]


@pytest.mark.long
def test_batches_do_not_change_answers(pruned):
    reader = QuestionAnswerer.load(pruned / "adapt-1.5x" / "model")
    pairs = [("a film", "film " * length + "good .") for length in (1, 3, 9, 40)] + [("film", "")]
    together = reader.answer_all(pairs, batch_size=2)
    for pair, found in zip(pairs, together):
        alone = reader.answer(*pair)
        assert (alone.text, alone.start, alone.end) == (found.text, found.start, found.end)
        assert alone.score == pytest.approx(found.score, abs=1e-4)
        np.testing.assert_array_equal(alone.keep_NW, found.keep_NW)
        assert alone.keep_NW.shape == (4, len(pair[1].split()))
    assert together[-1].text == "" and together[-1].answers == ()


@pytest.mark.long
def test_a_reader_refuses_what_is_no_pair_and_models_without_answers(pruned, tiny_files):
    reader = QuestionAnswerer.load(pruned / "finetune" / "model")
    (as_dict,) = reader.answer_all([{"question": "a", "context": "film"}])
    assert as_dict.answers == reader.answer("a", "film").answers
    with pytest.raises(TypeError, match="pair 1 is 'film'; expected"):
        reader.answer_all([("a", "film"), "film"])
    with pytest.raises(ValueError, match="finds no answers in texts; load it with Classifier"):
        QuestionAnswerer.load(tiny_files / "model")
    with pytest.raises(
        ValueError, match="config.json does not exist; .*; .*there are .*finetune.model"
    ):
        QuestionAnswerer.load(pruned / "finetune")


@pytest.mark.long
def test_a_stream_answers_before_all_questions_are_there(pruned):
    reader = QuestionAnswerer.load(pruned / "finetune" / "model")
    assert reader.warm_up(batch_size=2) > 0

    def pairs():
        yield from [("a", "film"), ("a", "good film")]
        raise RuntimeError("a third pair was asked for")

    answers = reader.stream(pairs(), batch_size=2)
    assert [next(answers).context, next(answers).context] == ["film", "good film"]
    with pytest.raises(RuntimeError):
        next(answers)


@pytest.mark.long
def test_a_question_that_is_cut_is_told(pruned):
    reader = QuestionAnswerer.load(pruned / "finetune" / "model")
    assert [
        reading.is_cut
        for reading in reader.answer_all([("a film .", "film"), ("a film . a", "film")])
    ] == [
        False,
        True,
    ]


@pytest.mark.long
def test_a_reader_always_answers_when_asked_to(pruned):
    asked = ("a film", "a film .")  # has no answer
    assert QuestionAnswerer.load(pruned / "finetune" / "model").answer(*asked).text == ""
    found = QuestionAnswerer.load(pruned / "finetune" / "model", always_answers=True).answer(*asked)
    assert found.text and found.text == found.answers[0].text


def test_fields_of_texts_with_classes_are_refused(make_reading, workdirs):
    with pytest.raises(
        ValueError, match="config.data.columns is given, but .*rename the fields of the data"
    ):
        run(make_reading(finetune, data__columns={"context": "passage"}), workdirs())


@pytest.mark.long
def test_selectors_learn_from_questions(make_reading, workdirs):
    workdir = run(make_reading(trbert, trbert__num_samples=2), workdirs())
    scores = phases.read_done(workdir / "trbert")["validation"]
    assert scores["flops_speedup"] > 1.0 and 0.0 <= scores["f1"] <= 1.0
    with np.load(workdir / "scores" / "scores.npz") as arrays:
        assert arrays["teacher_logits"].shape[1:] == (16, 2)


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "changes"),
    [
        (adapler, {}),
        (powerbert, {"powerbert__retention": (12, 8, 6, 4)}),
        (finetune, {"qa__score_options_independently": True}),
    ],
)
def test_options_are_chosen_by_every_method(make_reading, workdirs, folders, module, changes):
    config = make_reading(module, "choice", finetune__num_epochs=2, **changes)
    workdir = run(config, workdirs())
    assert phases.read_done(workdir / "finetune")["validation"]["score"] > 0.8
    for row in evaluate_workdir(workdir, log=NOTES.append, with_times=False):
        assert row["method"] == "dense" or 0 <= row["difference_se"] < 0.3
        assert row["metric"] == "accuracy" and (row["num_texts"], row["unit"], row["total"]) == (
            36,
            "options",
            18,
        )
        directory = workdir / ("finetune" if row["method"] == "dense" else row["method"]) / "model"
        assert score_of(MultipleChoice.load(directory), folders) == pytest.approx(row["test_score"])


def score_of(chooser, folders):
    """Share of the test questions that are answered rightly, by what a user would call."""
    rows = [
        json.loads(line) for line in (folders / "choice" / "test.jsonl").read_text().splitlines()
    ]
    found = chooser.choose_all([(row["question"], row["article"], row["options"]) for row in rows])
    return np.mean([answer.label == row["label"] for answer, row in zip(found, rows, strict=True)])


def test_limits_that_are_none_are_refused_before_any_work(make_reading):
    for field in ("doc_stride", "max_answer_tokens", "max_answers", "n_best_size"):
        with pytest.raises(ValueError, match=f"config.qa.{field} is 0; expected 1 or more"):
            check_config(make_reading(finetune, **{f"qa__{field}": 0}))
    with pytest.raises(
        ValueError, match="config.qa.num_validation_examples is -1; expected 0 or more"
    ):
        check_config(make_reading(finetune, qa__num_validation_examples=-1))


def test_a_task_without_a_source_says_so(make_reading, workdirs):
    with pytest.raises(
        ValueError, match="task 'custom_span' has no train split; set config.data.source"
    ):
        run(make_reading(finetune, data__source=""), workdirs())
