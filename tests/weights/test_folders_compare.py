"""transformers gives equal answers by the folders that it wrote, of every family."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax import Classifier, MultiLabelClassifier, Regressor, Reranker  # noqa: E402
from adapler_jax import onnx as exported  # noqa: E402
from adapler_jax.export.onnx.export import export_onnx  # noqa: E402
from adapler_jax.export.onnx.openvino import export_openvino  # noqa: E402
from tests.encoders.test_modernbert_heads_compare import given_folder  # noqa: E402
from tests.marks import mostly_long  # noqa: E402
from tests.weights.test_saved_compare import FAMILIES, start  # noqa: E402

pytestmark = pytest.mark.compare
# transformers builds the tokenizers of some families again, and these trim texts.
TEXTS = ["a good film .", "bad", "", "the plot is thin and the cast is good" + " bad cast" * 40]
PAIRS = [("a good film .", "the cast"), ("bad", "the plot is thin and the cast is good" * 5)]
NAMES = {0: "anger", 1: "joy", 2: "fear"}
MODERNBERT = "modernbert"
KINDS = {
    "classes": (Classifier, {"id2label": NAMES}),
    "labels": (
        MultiLabelClassifier,
        {"id2label": NAMES, "problem_type": "multi_label_classification"},
    ),
    "numbers": (Regressor, {"id2label": NAMES, "problem_type": "regression"}),
    "score": (Reranker, {"id2label": {0: "LABEL_0"}}),
}


def make_folder(folder, family, **fields):
    """Write a random checkpoint of a family for sequence classification."""
    if family == MODERNBERT:
        given_folder(folder, num_labels=len(fields["id2label"]), **fields)
        return folder
    return start(folder, family, "SequenceClassification", **fields)


def logits_of(folder, texts, max_length):
    """Return the logits of transformers, float32 [texts, outputs]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    columns = zip(*texts) if isinstance(texts[0], tuple) else (texts,)
    inputs = tokenizer(
        *map(list, columns),
        truncation=True,
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        return model(**inputs).logits


def answers(model, texts):
    """Return the numbers that a model gives."""
    return (model.predict_probs if hasattr(model, "predict_probs") else model.predict)(texts)


@pytest.mark.parametrize(
    ("family", "kind"),
    mostly_long(
        (*FAMILIES, MODERNBERT),
        KINDS,
        quick=[("bert", "classes"), ("roberta", "labels"), ("electra", "score")],
    ),
)
def test_answers_are_those_of_transformers(tmp_path, family, kind):
    ours, fields = KINDS[kind]
    folder = make_folder(tmp_path / "folder", family, **fields)
    model = ours.load(folder, driver="masked")
    texts = PAIRS if kind == "score" else TEXTS
    logits = logits_of(folder, texts, model.max_length)
    expected = {
        "classes": logits.softmax(-1),
        "labels": logits.sigmoid(),
        "numbers": logits,
        "score": logits.sigmoid()[:, 0],
    }[kind].numpy()
    np.testing.assert_allclose(answers(model, texts), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4  # texts differ
    if kind == "classes":
        assert model.class_names == tuple(NAMES.values())
        of_pairs = logits_of(folder, PAIRS, model.max_length).softmax(-1)
        np.testing.assert_allclose(model.predict_probs(PAIRS), of_pairs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_file_gives_these_answers(tmp_path, kind):
    ours, fields = KINDS[kind]
    folder = make_folder(tmp_path / "folder", "bert", **fields)
    config, texts = (folder / "config.json").read_bytes(), PAIRS if kind == "score" else TEXTS
    export_onnx(folder)
    found = getattr(exported, ours.__name__).load(folder)
    np.testing.assert_allclose(answers(found, texts), answers(ours.load(folder), texts), atol=1e-5)
    assert (folder / "config.json").read_bytes() == config


def test_a_model_of_openvino_gives_these_answers(tmp_path):
    pytest.importorskip("openvino")
    folder = make_folder(tmp_path / "folder", "bert", id2label=NAMES)
    export_openvino(folder)
    found = exported.Classifier.load(folder, engine="openvino").predict_probs(TEXTS)
    np.testing.assert_allclose(found, Classifier.load(folder).predict_probs(TEXTS), atol=1e-5)
