"""Checkpoints of other families that transformers saved are compressed too."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax.inference.classifier import Classifier  # noqa: E402
from adapler_jax.training.compress import compress  # noqa: E402
from adapler_jax.training.compress_steps import CompressOptions  # noqa: E402
from adapler_jax.weights.save import load_model  # noqa: E402
from tests.weights.test_saved_compare import start  # noqa: E402

pytestmark = [pytest.mark.compare, pytest.mark.long]
OPTIONS = CompressOptions(
    speedup=1.3,
    max_length=16,
    changes={
        "adapler.num_epochs": 1,
        "adapler.batch_size": 16,
        "data.bucket_lengths": (16,),
        "data.cache_dir": "none",
    },
)
WORDS = ["a", "film", "good", "bad", "the", "plot", "is", "thin", "and", "cast"]


def make_texts():
    rng = np.random.default_rng(3)
    texts = (" ".join(rng.choice(WORDS, rng.integers(3, 11))) for _ in range(360))
    return list(dict.fromkeys(texts))


def transformers_logits(folder, texts):
    """Return the logits of the checkpoint in transformers, float32 [texts, classes]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**batch).logits.numpy()


@pytest.mark.parametrize("family", ["roberta", "distilbert", "xlm-roberta", "electra", "mpnet"])
def test_a_checkpoint_is_kept_exactly_and_made_faster(family, tmp_path):
    (tmp_path / "given").mkdir()
    given, texts = start(tmp_path / "given", family, "SequenceClassification"), make_texts()
    notes = []
    found = compress(given, texts, tmp_path / "out", options=OPTIONS, log=notes.append)
    assert any(note.startswith("kept: ") for note in notes)
    full, fast = (Classifier.load(tmp_path / "out" / name) for name in ("full", "model"))
    assert full.class_names == fast.class_names == ("positive", "negative")
    assert full.max_length == fast.max_length == 16
    prob_TC = np.exp(logits := transformers_logits(given, texts[:40]))
    prob_TC /= prob_TC.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(full.predict_probs(texts[:40]), prob_TC, atol=1e-5)
    assert logits.std() > 0.01
    assert load_model(tmp_path / "out" / "model").pruner_name in (
        "attention",
        "vocabulary",
        "adapler",
    )
    speedups = [row["flops_speedup"] for row in found.rows]
    assert max(speedups) > 1.2 and speedups == sorted(speedups, reverse=True)
