"""HotpotQA and WikiHop at a small size, from published files to answers."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import init_classifier
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.example_arrays import load_arrays
from adapler_jax.training.run import run_all
from adapler_jax.weights.save import load_model, save_model
from configs import adapler, trbert
from tests.data.conftest import WORDS, build_tokenizer
from tests.training.conftest import ENCODER

MARKERS = ("[unused1]", "[unused2]")
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
}  # whose compilation takes longest
NOTES = []


def hotpot_item(number, rng):
    """The answer is the word good or bad of one sentence; with `not` it is yes."""
    word = ("good", "bad", "a")[number % 3]
    sentences = {("film", 0): "film", ("film", 1): "film", ("films", 0): "film"}
    fact = list(sentences)[int(rng.integers(3))]
    sentences[fact] = f"film {word}"
    context = [
        [title, [text for (of, _), text in sentences.items() if of == title]]
        for title in ("film", "films")
    ]
    question, answer = ("not a film", "yes") if word == "a" else ("a film", word)
    return {
        "_id": str(number),
        "question": question,
        "answer": answer,
        "supporting_facts": [list(fact)],
        "context": context,
        "type": "bridge",
    }


def wikihop_item(number, rng):
    """The right candidate is the word that query and text have.

    The number makes queries different.
    """
    word = ("good", "bad")[int(rng.integers(2))]
    supports = [f"film {word}", "a film ." * int(rng.integers(6))]
    return {
        "id": str(number),
        "query": f"{word} {word} {number}",
        "answer": word,
        "candidates": ["good", "bad"],
        "supports": supports,
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with a model that has the markers, and both tasks' files."""
    root = tmp_path_factory.mktemp("multihop")
    config = dataclasses.replace(ENCODER, vocab_size=len(WORDS) + 2, num_positions=32, **NO_DROPOUT)
    encoder, head = (
        init_encoder(jax.random.key(0), config),
        init_classifier(jax.random.key(1), config, 2),
    )
    params = {"encoder": encoder, "head": head, "pruner": {}}
    save_model(root / "model", params, config, tokenizer=build_tokenizer((*WORDS, *MARKERS)))
    for name, item, parts in (
        ("hotpotqa", hotpot_item, {"hotpot_train_v1.1": 48, "hotpot_dev_distractor_v1": 18}),
        ("wikihop", wikihop_item, {"train": 64, "dev": 18}),
    ):
        (root / name).mkdir()
        for seed, (part, count) in enumerate(parts.items()):
            rng = np.random.default_rng(seed)
            text = json.dumps([item(number, rng) for number in range(count)])
            (root / name / f"{part}.json").write_text(text)
    return root


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    """Runs a method on a task; gives the workdir."""

    def run(module, task, **changes):
        config = module.get_config(f"{task},debug")
        config.model = str(files / "model")
        config.data.source = f"file:{files / task}"
        config.data.cache_dir = "none"
        config.data.num_train_examples = 0
        config.data.max_length = 32
        config.data.bucket_lengths = (32,)
        config.qa.update(
            {"max_question_tokens": 3, "max_sentences": 4, "max_answers": 2, "max_candidates": 3}
        )
        config.finetune.update({"learning_rate": 1e-2, "num_epochs": 10, "batch_size": 8})
        config.inference.driver = "masked"  # validation's driver, so that programs are found again
        config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in changes.items()}
        )
        workdir = tmp_path_factory.mktemp("runs") / task
        run_all(config.lock(), workdir, log=NOTES.append)
        return workdir

    return run


@pytest.mark.long
def test_hotpotqa_from_files_to_answers_and_facts(run, files):
    held_out = {"validation": f"file:{files / 'hotpotqa' / 'hotpot_dev_distractor_v1.json'}"}
    workdir = run(
        trbert,
        "hotpotqa",
        data__sources=held_out,
        trbert__num_samples=2,
        trbert__batch_size=32,
    )
    scores = phases.read_done(workdir / "finetune")["validation"]
    assert scores["score"] == scores["joint_f1"] > 0.8 and scores["total"] == 18
    saved = load_model(workdir / "trbert" / "model")
    assert saved.head.name == "hotpot" and dict(saved.head.factory_kwargs) == {
        "num_sentences": 4,
        "protects": True,
    }
    teacher = load_arrays(workdir / "scores" / "scores.npz").teacher_logits
    assert {name: rows.shape for name, rows in teacher.items()} == {
        "span_BL2": (48, 32, 2),
        "type_B3": (48, 3),
        "support_BX2": (48, 4, 2),
    }
    dense, pruned = evaluate_workdir(workdir, log=NOTES.append, with_times=False)
    assert dense["metric"] == "joint_f1" and dense["test_score"] == pytest.approx(scores["score"])
    assert pruned["flops_speedup"] > 1.0 and 0.0 <= pruned["test_score"] <= pruned["f1"] <= 1.0


@pytest.mark.long
def test_wikihop_from_files_to_candidates(run):
    workdir = run(
        adapler,
        "wikihop",
        data__split_fractions={"validation": 0.3},
        qa__max_packed_questions=2,
        adapler__batch_size=32,
        adapler__initial_threshold=0.9,
    )
    assert phases.read_done(workdir / "finetune")["validation"]["score"] > 0.8
    assert any(
        re.fullmatch("validation: 0.3 of train's questions, by seed 0: \\d+ questions", note)
        for note in NOTES
    )
    dense, pruned = evaluate_workdir(workdir, log=NOTES.append, with_times=False)
    assert dense["metric"] == "accuracy" and dense["test_score"] > 0.8
    assert pruned["flops_speedup"] > 1.0 and 0.0 <= pruned["test_score"] <= 1.0


def test_a_task_without_a_folder_says_what_to_give(run):
    with pytest.raises(
        ValueError,
        match="task 'hotpotqa' has no train split; set config.data.source, as in file:FOL",
    ):
        run(trbert, "hotpotqa", data__source="")
