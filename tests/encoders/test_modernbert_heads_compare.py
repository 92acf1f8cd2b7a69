"""ModernBERTs of transformers and sentence-transformers with other heads than one of classes."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the live comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

from sentence_transformers.base.modules import Dense, Normalize, Transformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling  # noqa: E402

from adapler_jax.inference.embedder import Embedder  # noqa: E402
from adapler_jax.inference.engine import make_engine, prepare_inference_params  # noqa: E402
from adapler_jax.inference.multi_label import MultiLabelClassifier  # noqa: E402
from adapler_jax.inference.reranker import Reranker  # noqa: E402
from adapler_jax.pruning import keep_all  # noqa: E402
from adapler_jax.weights.folders import load_folder  # noqa: E402
from adapler_jax.weights.pretrained import load_pretrained  # noqa: E402
from adapler_jax.weights.save import load_model, save_model  # noqa: E402
from adapler_jax.weights.score_heads import head_of_checkpoint  # noqa: E402
from tests.data.conftest import build_tokenizer  # noqa: E402
from tests.encoders.made_modernbert import torch_model  # noqa: E402
from tests.encoders.test_modernbert_compare import make_batch, torch_results  # noqa: E402

pytestmark = pytest.mark.compare
TEXTS = ["a good film", "bad", "not a bad film . a good film"]
KEY = jax.random.key(0)
KINDS = {
    "reranker": {"num_labels": 1},
    "numbers": {"num_labels": 3, "problem_type": "regression"},
    "labels": {"num_labels": 4, "problem_type": "multi_label_classification"},
}
NAMES = {"reranker": (), "numbers": ("a", "b", "c"), "labels": ("a", "b", "c", "d")}


def save_ours(given, out, names):
    """A folder of transformers, loaded and saved by this library."""
    head = head_of_checkpoint(given)
    loaded = load_pretrained(given, KEY, head=head)
    assert not loaded.fresh
    params = loaded.params | {"pruner": {}}
    tokenizer = given if (given / "tokenizer.json").exists() else None
    return save_model(
        out,
        params,
        loaded.config,
        head=head,
        class_names=names,
        max_length=64,
        tokenizer=tokenizer,
    )


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(kind, pooling, tmp_path):
    model = torch_model(**KINDS[kind], classifier_pooling=pooling)
    model.save_pretrained(tmp_path / "theirs")
    folder = save_ours(tmp_path / "theirs", tmp_path / "ours", NAMES[kind])
    saved, batch = load_model(folder), make_batch((40, 1, 23))
    _, expected_BC = torch_results(model, batch)
    params = prepare_inference_params(saved.params, saved.config)
    engine = make_engine(saved.config, keep_all(), driver="bucketed", head=saved.head)
    found_BC, _ = engine(params, batch)
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    read, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    assert type(read).__name__ == "ModernBertForSequenceClassification"
    np.testing.assert_allclose(torch_results(read.eval(), batch)[1], expected_BC, atol=1e-6)


def given_folder(folder, kind="ModernBertForSequenceClassification", **changes):
    """A folder of transformers with a tokenizer, and its model."""
    tokenizer = build_tokenizer()
    model = torch_model(kind, vocab_size=len(tokenizer), **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def test_a_reranker_gives_the_scores_of_transformers(tmp_path):
    given = tmp_path / "theirs"
    model, tokenizer = given_folder(given, num_labels=1, classifier_pooling="mean")
    folder = save_ours(given, tmp_path / "ours", ())
    pairs = [("a good film", "not bad"), ("bad", "a film . a good film")]
    found = Reranker.load(folder).predict(pairs)
    for pair, score in zip(pairs, found):
        ids = tokenizer(*pair).input_ids
        with torch.no_grad():
            logit = model(input_ids=torch.tensor([ids])).logits[0, 0]
        np.testing.assert_allclose(score, torch.sigmoid(logit), atol=1e-5)


def test_several_labels_are_those_of_transformers(tmp_path):
    given_folder(tmp_path / "theirs", **KINDS["labels"], classifier_pooling="mean")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs")
    folder = save_ours(tmp_path / "theirs", tmp_path / "ours", NAMES["labels"])
    (found,) = MultiLabelClassifier.load(folder).predict(["a good film"])
    ids = build_tokenizer()("a good film").input_ids
    with torch.no_grad():
        prob_C = torch.sigmoid(model.eval()(input_ids=torch.tensor([ids])).logits[0])
    np.testing.assert_allclose(list(found.probabilities.values()), prob_C, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("has_dense", [False, True])
def test_vectors_are_those_of_sentence_transformers(pooling, has_dense, tmp_path):
    given_folder(tmp_path / "encoder", "ModernBertModel")
    parts = [Transformer(str(tmp_path / "encoder"), max_seq_length=64), Pooling(16, pooling)]
    parts += [Dense(16, 6)] if has_dense else []
    theirs = sentence_transformers.SentenceTransformer(modules=[*parts, Normalize()], device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    expected_BI = theirs.encode(TEXTS)
    embedder = Embedder.load(tmp_path / "theirs", driver="masked")
    np.testing.assert_allclose(embedder.encode(TEXTS), expected_BI, atol=1e-5)
    saved = load_folder(tmp_path / "theirs")
    folder = save_model(
        tmp_path / "ours",
        saved.params,
        saved.config,
        pruner_name="keep_all",
        head=saved.head,
        max_length=64,
        tokenizer=tmp_path / "theirs",
    )
    again = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected_BI, atol=1e-6)


def test_tags_are_those_of_transformers(tmp_path):
    names = {0: "O", 1: "B-PER", 2: "I-PER"}
    kind = "ModernBertForTokenClassification"
    model, tokenizer = given_folder(tmp_path / "theirs", kind, id2label=names)
    saved = load_folder(tmp_path / "theirs")
    folder = save_model(
        tmp_path / "ours",
        saved.params,
        saved.config,
        head=saved.head,
        class_names=saved.class_names,
        max_length=64,
        tokenizer=tmp_path / "theirs",
    )
    batch = make_batch((30, 1, 12))
    batch = batch.replace(token_BL=batch.token_BL % len(tokenizer))
    expected_BLC = torch_logits(model, batch)
    params = prepare_inference_params(saved.params, saved.config)
    engine = make_engine(
        saved.config, keep_all(), driver="bucketed", head=saved.head, buckets=(32,)
    )
    found_BLC, _ = engine(params, batch)
    is_text_BL1 = batch.valid_BL[..., None]
    expected_BLC = np.where(is_text_BL1, expected_BLC, 0.0)
    np.testing.assert_allclose(found_BLC, expected_BLC, atol=1e-5, rtol=0)
    read, report = transformers.AutoModelForTokenClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    again_BLC = np.where(is_text_BL1, torch_logits(read.eval(), batch), 0.0)
    np.testing.assert_allclose(again_BLC, expected_BLC, atol=1e-6)
    assert load_model(folder).params["head"].keys() == {"pooler", "pooler_norm", "classifier"}


def torch_logits(model, batch):
    """Logits of transformers."""
    with torch.no_grad():
        inputs = {
            "input_ids": torch.tensor(batch.token_BL, dtype=torch.long),
            "attention_mask": torch.tensor(batch.valid_BL, dtype=torch.long),
        }
        return model(**inputs).logits.numpy()
