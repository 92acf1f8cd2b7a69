"""Faster models of vectors are compared with the full model's by similarities."""

import numpy as np
import pytest

from adapler_jax.evaluation.task_texts import load_reader
from adapler_jax.heads import embedding
from adapler_jax.inference.embedder import Embedder
from adapler_jax.metrics.similarity import cosines, similarity_agreement
from adapler_jax.training.compress_steps import TASKS_OF_HEADS, CompressOptions, given_head
from adapler_jax.training.compress_steps import make_config as make_training
from adapler_jax.training.rungs import Judge, Rung, best_rung, save_without_training
from adapler_jax.weights.save import load_model
from tests.export.onnx_models import save_tiny

TEXTS = [f"w{n % 44} w{n % 13} w{n % 7} w{n % 5} w{n % 3} w{n % 11}" for n in range(60)]
EXTRA = {"prompts": {"query": "w1 w2 "}, "default_prompt_name": "query"}


@pytest.fixture(scope="module", name="given")
def _given(tmp_path_factory):
    """The directory of a model of vectors with a prompt."""
    folder = tmp_path_factory.mktemp("given") / "model"
    return save_tiny(folder, "keep_all", head=embedding(), max_length=12, extra=EXTRA)


@pytest.fixture(scope="module", name="judge")
def _judge(given):
    return Judge(given, TEXTS[30:])


@pytest.fixture(scope="module", name="made")
def _made(given, tmp_path_factory):
    """The directory of a faster model."""
    out = tmp_path_factory.mktemp("made") / "model"
    return save_without_training(given, TEXTS[:30], out, method="attention", speedup=1.3)


def test_the_full_model_agrees_with_itself(judge, given):
    rung = judge.measure("full", given)
    assert rung.agreement == pytest.approx(1.0) and rung.flops_speedup == 1.0
    assert rung.sentence() == (
        "full: 1.00x, 100.0% Spearman correlation of similarities, cosine 1.000 with its vectors"
    )


@pytest.mark.long
def test_the_agreement_is_of_the_vectors_after_the_default_prompt(judge, given, made):
    rung = judge.measure("attention", made)
    found, full = (Embedder.load(path).encode(TEXTS[30:]) for path in (made, given))
    assert rung.cosine == pytest.approx(cosines(found, full).mean(), abs=1e-5)
    expected = similarity_agreement(found, full).mean()
    assert rung.agreement == pytest.approx(expected, abs=0.05)  # batches have another order
    assert rung.flops_speedup == pytest.approx(1.3, rel=0.1) and rung.agreement < 1.0


def test_a_faster_model_keeps_head_and_prompts(made):
    saved = load_model(made)
    assert saved.head is embedding() and saved.pruner_name == "attention"
    assert Embedder.load(made).default_prompt_name == "query"
    assert isinstance(load_reader(made), Embedder)


def test_the_nearest_similarities_win():
    rungs = [
        Rung(name, name, speedup, np.full(3, agreement), "Spearman", cosine=cosine)
        for name, speedup, agreement, cosine in (
            ("a", 2.0, 0.9, 0.99),
            ("b", 2.1, 0.95, 0.9),
            ("c", 1.2, 0.99, 0.99),
        )
    ]
    assert best_rung(rungs, 2.0).name == "b"
    assert rungs[1].compared_with(rungs[0]) == "b has +5.0 ± 0.0 points of Spearman over a"


def test_the_training_is_of_similarities_of_pairs(given, tmp_path):
    options = CompressOptions(speedup=1.7, changes={"adapler.num_epochs": 2})
    config = make_training(given, tmp_path, options, has_pairs=True)
    assert config.task == "custom_similarity" and config.data.max_length == 12
    assert config.data.columns.to_dict() == {"text_pair": "text_pair"}
    assert config.adapler.num_epochs == 2
    assert config.adapler.distil_coef == 1.0 and config.adapt.target_speedups == (1.7,)
    assert given_head(given) is embedding() and TASKS_OF_HEADS["embedding"] == config.task
