"""ModernBERTs that transformers saved are compressed, and the ONNX file of one agrees."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax import onnx  # noqa: E402
from adapler_jax.export.onnx.export import export_onnx  # noqa: E402
from adapler_jax.inference.classifier import Classifier  # noqa: E402
from adapler_jax.training.compress import compress  # noqa: E402
from adapler_jax.weights.save import load_model  # noqa: E402
from adapler_jax.weights.torch_model import MODELING_FILE  # noqa: E402
from tests.data.conftest import build_tokenizer  # noqa: E402
from tests.encoders.made_modernbert import torch_model  # noqa: E402
from tests.encoders.test_modernbert_heads_compare import given_folder  # noqa: E402
from tests.training.test_compress_families import (  # noqa: E402
    OPTIONS,
    make_texts,
    transformers_logits,
)

pytestmark = [pytest.mark.compare, pytest.mark.long]


@pytest.mark.parametrize(("pooling", "train"), [("cls", True), ("mean", False)])
def test_a_checkpoint_is_kept_exactly_and_made_faster(pooling, train, tmp_path):
    given, texts, tokenizer = tmp_path / "given", make_texts(), build_tokenizer()
    torch_model(classifier_pooling=pooling, vocab_size=len(tokenizer)).save_pretrained(given)
    tokenizer.save_pretrained(given)
    options = OPTIONS._replace(train=train)
    found = compress(given, texts, tmp_path / "out", options=options, log=lambda note: None)
    full = Classifier.load(tmp_path / "out" / "full")
    logits_TC = torch.tensor(transformers_logits(given, texts[:40]))
    prob_TC = torch.softmax(logits_TC, -1).numpy()
    np.testing.assert_allclose(full.predict_probs(texts[:40]), prob_TC, atol=1e-5)
    assert max(row["flops_speedup"] for row in found.rows) > 1.2
    saved = load_model(tmp_path / "out" / "model")
    assert saved.config.family == "modernbert" and saved.pruner_name != "keep_all"
    assert not (saved.directory / MODELING_FILE).exists()
    export_onnx(saved.directory)
    expected = Classifier.load(saved.directory).predict(texts[:40])
    found = onnx.Classifier.load(saved.directory).predict(texts[:40])
    assert [answer.label for answer in found] == [answer.label for answer in expected]
    assert [answer.kept_words for answer in found] == [answer.kept_words for answer in expected]


@pytest.mark.parametrize("kind", ["scores", "vectors"])
def test_models_of_other_heads_are_made_faster(kind, tmp_path):
    given, texts = tmp_path / "given", make_texts()
    if kind == "scores":
        given_folder(given, num_labels=1, classifier_pooling="mean")
        texts = [(texts[row % 60], text) for row, text in enumerate(texts)]
    else:
        given_folder(given, "ModernBertModel")
    options = OPTIONS._replace(train=False, pooling="mean" if kind == "vectors" else None)
    compress(given, texts, tmp_path / "out", options=options, log=lambda note: None)
    saved = load_model(tmp_path / "out" / "model")
    assert saved.config.family == "modernbert" and saved.pruner_name != "keep_all"
    assert saved.head.name == {"scores": "regression", "vectors": "embedding"}[kind]
