"""The benchmark of models of vectors at a small size."""

import types

import numpy as np
import pytest

from adapler_jax.heads import embedding
from adapler_jax.inference.embedder import Embedder
from benchmarks import embed
from tests.export.onnx_models import save_tiny

TEXTS = [f"w{number} w{number % 7} w{number % 5} w{number % 3}" for number in range(24)]


@pytest.mark.long
def test_rows_compare_every_model_with_the_first(tmp_path):
    models = {
        name: save_tiny(tmp_path / name, method, head=embedding(), max_length=12)
        for name, method in (("full", "keep_all"), ("attention-2x", "attention"))
    }
    first, second = embed.measure_models(models, TEXTS, task="tiny", seed=0)
    assert first["flops_speedup"] == 1.0 and first["spearman_to_full"] == pytest.approx(1.0)
    assert first["mean_cosine"] == pytest.approx(1.0) and second["num_texts"] == 24
    full, pruned = (Embedder.load(path).encode(TEXTS) for path in models.values())
    assert second["mean_cosine"] == pytest.approx(np.mean(np.sum(full * pruned, axis=1)), abs=1e-4)
    assert second["spearman_to_full"] == pytest.approx(second["spearman_of_groups"], abs=0.05)
    assert second["flops_speedup"] > 1.2 and 0 < second["spearman_se"] < 0.05


@pytest.mark.long
def test_vectors_are_in_the_order_of_the_texts(tmp_path):
    directory = save_tiny(tmp_path / "m", "adapler", head=embedding(), max_length=12)
    texts = [*TEXTS, "w1", "w2 " * 30]
    found, _ = embed.vectors_of(directory, texts)
    expected = Embedder.load(directory).encode(texts)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found / lengths, expected, atol=1e-5)


def test_all_pairs_count_once():
    full = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.1]])
    assert embed.all_pairs_spearman(3 * full, full) == pytest.approx(1.0)
    assert embed.all_pairs_spearman(full[::-1], full) < 1.0


def test_texts_of_the_test_are_never_trained_on(tmp_path):
    (tmp_path / "train.txt").write_text("a\nb\nc\nd\nb\n")
    (tmp_path / "test.txt").write_text("b\ne\nf\n")
    options = types.SimpleNamespace(
        column="",
        data=str(tmp_path / "train.txt"),
        test=str(tmp_path / "test.txt"),
        num_test=2,
        num_train=2,
    )
    assert embed.load_texts(options) == {"train": ["a", "c"], "test": ["b", "e"]}
