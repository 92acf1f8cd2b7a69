"""transformers' ELECTRA and MPNet, with all their heads, and this library are equal."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the live comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax.heads import CLASSIFICATION, SPAN, make_head  # noqa: E402
from adapler_jax.inference.classifier import Classifier  # noqa: E402
from adapler_jax.inference.engine import make_engine, prepare_inference_params  # noqa: E402
from adapler_jax.inference.reranker import Reranker  # noqa: E402
from adapler_jax.pruning import keep_all  # noqa: E402
from adapler_jax.weights.pretrained import load_pretrained  # noqa: E402
from adapler_jax.weights.save import load_model, save_model  # noqa: E402
from adapler_jax.weights.score_heads import head_of_checkpoint  # noqa: E402
from tests.data.conftest import build_tokenizer  # noqa: E402
from tests.encoders.made_families import (  # noqa: E402
    MADE,
    make_batch,
    torch_model,
    torch_results,
)
from tests.marks import mostly_long  # noqa: E402

pytestmark = pytest.mark.compare
KEY = jax.random.key(0)
DRIVERS = ("masked", "bucketed", "packed")
KINDS = {  # class of transformers, changes of config.json, names of classes
    "classes": ("ForSequenceClassification", {}, ("a", "b", "c")),
    "reranker": ("ForSequenceClassification", {"num_labels": 1}, ()),
    "numbers": ("ForSequenceClassification", {"problem_type": "regression"}, ("a", "b", "c")),
    "labels": (
        "ForSequenceClassification",
        {"problem_type": "multi_label_classification"},
        ("a", "b", "c"),
    ),
    "tags": ("ForTokenClassification", {"id2label": {0: "O", 1: "B", 2: "I"}}, ("O", "B", "I")),
    "answers": ("ForQuestionAnswering", {"num_labels": 2}, ()),
}
VARIANTS = {
    "2 layers": {"num_hidden_layers": 2},
    "12 layers": {"num_hidden_layers": 12, "initializer_range": 0.1},
    "4 heads, relu, epsilon": {
        "num_attention_heads": 4,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-2,
    },
}


def run(params, config, batch, *, driver="masked", head=CLASSIFICATION, **options):
    """Logits and trace of this library."""
    params = params | {"pruner": {}}
    if driver != "masked":
        params = prepare_inference_params(params, config)
    engine = make_engine(config, keep_all(), driver=driver, head=head, buckets=(16, 64), **options)
    return engine(params, batch)


@pytest.mark.parametrize(
    ("family", "name"),
    mostly_long(MADE, VARIANTS, quick=[("electra", "2 layers"), ("mpnet", "2 layers")]),
)
def test_states_and_logits_are_those_of_transformers(family, name, tmp_path):
    model = torch_model(family, **VARIANTS[name])
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY)
    assert not loaded.fresh
    for lengths, num_slots in (((60, 1, 37), None), ((20, 20), None), ((1,), 1)):
        batch = make_batch(family, lengths, num_slots)
        expected = torch_results(family, model, batch)
        found_BC, trace = run(loaded.params, loaded.config, batch, return_exit_hidden=True)
        np.testing.assert_allclose(found_BC, expected["logits"], atol=1e-5, rtol=0)
        expected_BLD = np.where(batch.valid_BL[..., None], expected["states"], 0.0)
        np.testing.assert_allclose(trace.exit_hidden_BLD, expected_BLD, atol=1e-5, rtol=0)


def save_ours(given, out, names, head=None, *, tokenizer=None):
    """A folder of transformers, loaded and saved by this library."""
    head = head or head_of_checkpoint(given)
    loaded = load_pretrained(given, KEY, head=head)
    assert not loaded.fresh
    return save_model(
        out,
        loaded.params | {"pruner": {}},
        loaded.config,
        head=head,
        class_names=names or None,
        max_length=64,
        tokenizer=tokenizer,
    )


def by_name(logits, head):
    """Logits of this library by the names of transformers."""
    if head is not SPAN:
        return {"logits": logits}
    return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}


@pytest.mark.parametrize(
    ("family", "kind"), mostly_long(MADE, KINDS, quick=[("electra", "labels")])
)
def test_a_saved_model_of_each_head_is_that_of_transformers_again(family, kind, tmp_path):
    name, changes, names = KINDS[kind]
    model = torch_model(family, name, **changes)
    model.save_pretrained(tmp_path / "theirs")
    head = SPAN if kind == "answers" else None
    folder = save_ours(tmp_path / "theirs", tmp_path / "ours", names, head)
    saved, batch = load_model(folder), make_batch(family, (40, 1, 23))
    expected = torch_results(family, model, batch)
    for driver in DRIVERS:
        logits, _ = run(saved.params, saved.config, batch, driver=driver, head=saved.head)
        for end, found in by_name(logits, saved.head).items():
            is_own = batch.valid_BL if kind in ("tags", "answers") else slice(None)
            np.testing.assert_allclose(found[is_own], expected[end][is_own], atol=1e-5, rtol=0)
    read, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert read.config.architectures == [type(model).__name__]
    again = torch_results(family, read.eval(), batch)
    for end in by_name(logits, saved.head):
        np.testing.assert_allclose(again[end], expected[end], atol=1e-5)


@pytest.mark.parametrize("family", MADE)
def test_the_pooler_and_the_classifier_of_options_are_those_of_transformers(family, tmp_path):
    model = torch_model(family, "ForMultipleChoice", num_labels=2)
    model.save_pretrained(tmp_path / "theirs")
    head, batch = make_head("choice", num_options=4), make_batch(family, (30, 9, 12, 1))
    folder = save_ours(tmp_path / "theirs", tmp_path / "ours", (), head)
    read, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    batch_of_one = jax.tree.map(lambda array: array[None], batch)
    expected = torch_results(family, model, batch_of_one)
    again = torch_results(family, read.eval(), batch_of_one)
    np.testing.assert_allclose(again["logits"], expected["logits"], atol=1e-5)
    saved = load_model(folder)
    found_BC, _ = run(saved.params, saved.config, batch, head=saved.head)
    found_C = np.asarray(found_BC).reshape(-1)
    np.testing.assert_allclose(found_C, expected["logits"].reshape(-1), atol=1e-5)


@pytest.mark.parametrize("family", MADE)
@pytest.mark.parametrize("kind", mostly_long(["Model", "ForMaskedLM"], quick=["Model"]))
def test_folders_of_an_encoder_and_of_a_language_model_give_their_states(family, kind, tmp_path):
    model, batch = torch_model(family, kind), make_batch(family, (30, 12))
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY, num_classes=3)
    _, trace = run(loaded.params, loaded.config, batch, return_exit_hidden=True)
    expected_BLD = torch_results(family, model, batch)["states"]
    expected_BLD = np.where(batch.valid_BL[..., None], expected_BLD, 0.0)
    np.testing.assert_allclose(trace.exit_hidden_BLD, expected_BLD, atol=1e-5, rtol=0)
    assert "classifier" in loaded.fresh
    if kind == "ForMaskedLM":
        assert len([note for note in loaded.notes if note.startswith("ignored: ")]) == 1


@pytest.mark.parametrize("family", ["electra", "mpnet"])
def test_texts_get_the_scores_of_transformers(family, tmp_path):
    tokenizer, texts = build_tokenizer(), ["a good film . not bad", "bad"]
    pairs = [("a good film", "not bad"), ("bad", "a film . a good film")]
    folders = {}
    for count in (1, 3):
        given = tmp_path / f"theirs {count}"
        model = torch_model(family, vocab_size=len(tokenizer), num_labels=count)
        model.save_pretrained(given)
        tokenizer.save_pretrained(given)
        names = ("a", "b", "c")[:count] if count > 1 else ()
        folders[count] = save_ours(given, tmp_path / f"ours {count}", names, tokenizer=given)

    def logits_of(count, *text):
        """Logits of transformers, from the saved folder."""
        read = transformers.AutoModelForSequenceClassification.from_pretrained(folders[count])
        own = transformers.AutoTokenizer.from_pretrained(folders[count])
        with torch.no_grad():
            return read.eval()(**own(*text, return_tensors="pt")).logits[0]

    for pair, score in zip(pairs, Reranker.load(folders[1]).predict(pairs)):
        np.testing.assert_allclose(score, torch.sigmoid(logits_of(1, *pair))[0], atol=1e-5)
    for text, answer in zip(texts, Classifier.load(folders[3]).predict(texts)):
        expected_C = torch.softmax(logits_of(3, text), -1)
        np.testing.assert_allclose(list(answer.probabilities.values()), expected_C, atol=1e-5)
