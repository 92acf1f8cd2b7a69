"""A saved classifier drops tokens in PyTorch, by the program in its folder."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from adapler_jax.encoders import bert
from adapler_jax.heads import SPAN, regression
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import make_engine
from adapler_jax.inference.reranker import Reranker
from adapler_jax.pruning import make_pruner, pruner_of_saved
from adapler_jax.weights import torch_model
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.torch_model import MODELING_FILE, PRUNERS
from tests.export.onnx_models import METHODS, feeds_of, run_engine, save_tiny
from tests.tiny import CONFIG, make_batch, make_params

NAMES, MAX_LENGTH = ("no", "maybe", "yes"), 14
TEXTS = ["w1 w2 w3", "", "w7 w8 w9 w3 w2 w1 w40 w41 w42 w5 w6 w11 w12 w13 w14 w15 w16", "zzz w4"]
PAIRS = [("w1 w2", "w3 w4 w5"), ("w6", ""), ("", "w9 w8 w7 w6 w5 w4 w3 w2 w1 w1 w1 w1 w1 w1")]
PROGRAM = """
import sys
sys.modules |= dict.fromkeys(("jax", "adapler_jax"))  # importing them fails
from transformers import pipeline
pipe = pipeline("text-classification", sys.argv[1], trust_remote_code=True, truncation=True)
print([row["label"] for row in pipe(["w1 w2 w3", "w7 w8 w9 w3 w2"])])
"""


def has_program(directory):
    """Return True if a folder has the program and its config.json the name."""
    is_named = "auto_map" in json.loads((directory / "config.json").read_text())
    assert (directory / MODELING_FILE).is_file() == is_named
    return is_named


@pytest.mark.parametrize("method", METHODS)
def test_classifiers_that_drop_tokens_have_the_program(tmp_path, method):
    directory = save_tiny(tmp_path / "model", method)
    assert has_program(directory) == (method != "keep_all") == (method in PRUNERS)
    card = (directory / "README.md").read_text()
    assert (f"`{MODELING_FILE}` of this folder" in card) == has_program(directory)


def test_other_models_have_no_program(tmp_path):
    assert not has_program(save_tiny(tmp_path / "span", "adapler", head=SPAN))
    for method, option in (("trbert", "by_batch"), ("powerbert", "counts_padding")):
        options = {"pruner_options": {option: True}}
        assert not has_program(save_tiny(tmp_path / option, method, **options))
    saved = load_model(save_tiny(tmp_path / "tanh", "adapler"))
    config = dataclasses.replace(saved.config, pooler_activation="relu")
    directory = save_model(tmp_path / "relu", saved.params, config, pruner_name="adapler")
    assert not has_program(directory)


def test_the_program_goes_with_another_model(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler")
    saved = load_model(directory)
    save_model(directory, saved.params | {"pruner": {}}, CONFIG)
    assert not has_program(directory)


def test_the_program_is_short():
    path = torch_model.__file__.replace("torch_model.py", MODELING_FILE)
    with open(path, encoding="utf-8") as file:
        assert len(file.readlines()) <= 300


# With PyTorch


@pytest.fixture(name="torch", scope="module")
def _torch():
    return pytest.importorskip(
        "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
    )


def open_program(directory, **options):
    """Return the model as transformers opens it."""
    transformers = pytest.importorskip("transformers")
    kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(directory, trust_remote_code=True, **options).eval()


def run_program(torch, directory, feeds):
    """Return the logits and the layers of each token."""
    with torch.no_grad():
        found = open_program(directory)(
            **{name: torch.from_numpy(array) for name, array in feeds.items()}
        )
    return found.logits.numpy(), found.kept.numpy()


@pytest.mark.compare
@pytest.mark.parametrize("method", PRUNERS)
@pytest.mark.parametrize("lengths", [(12, 7, 1, 5), (1,), (3, 0, 16), (9,) * 5])
def test_logits_and_kept_tokens_are_the_library_s(torch, tmp_path, method, lengths):
    directory = save_tiny(tmp_path / "model", method)
    batch = make_batch(lengths, num_slots=max(lengths))
    logits_BC, kept_BL = run_program(torch, directory, feeds_of(batch))
    expected_BC, expected_BL = run_engine(directory, batch)
    has_token_B = np.array(lengths) > 0
    np.testing.assert_allclose(logits_BC[has_token_B], expected_BC[has_token_B], atol=1e-5)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    assert np.all(logits_BC[~has_token_B] == 0.0)
    if max(lengths) > 9:
        assert 0 < kept_BL.sum() < CONFIG.num_layers * sum(lengths)


def save_other(directory, method, config=CONFIG, **options):
    """Save a model of other sizes or options."""
    pruner = make_pruner(method, config, **options)
    params = make_params(pruner)
    params["encoder"] = bert.init_encoder(jax.random.key(3), config)
    params["pruner"] = jax.tree.map(lambda leaf: leaf[: config.num_layers], params["pruner"])
    kept = dict(pruner.factory_kwargs)
    return save_model(directory, params, config, pruner_name=method, pruner_options=kept)


@pytest.mark.compare
@pytest.mark.parametrize(
    ("method", "fields", "options"),
    [
        ("adapler", {"activation": "relu"}, {"predictor_dim": 8}),
        ("adapler", {"num_segments": 1}, {}),
        ("adapler", {"num_layers": 1}, {}),
        ("attention", {"num_layers": 1}, {}),
        ("powerbert", {"num_layers": 1}, {}),
        ("trbert", {}, {"selector_dim": 5, "layers": (1, 3)}),
    ],
)
def test_sizes_and_options_of_a_model_are_read(torch, tmp_path, method, fields, options):
    config = dataclasses.replace(CONFIG, **fields)
    directory = save_other(tmp_path / "model", method, config, **options)
    batch = make_batch().replace(segment_BL=np.zeros((4, 12), np.int32))
    logits_BC, kept_BL = run_program(torch, directory, feeds_of(batch))
    saved = load_model(directory)
    engine = make_engine(config, pruner_of_saved(saved), driver="masked")
    expected_BC, trace = engine(saved.params, batch)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5)
    np.testing.assert_array_equal(kept_BL, (np.asarray(trace.survival_NBL) > 0).sum(axis=0))


@pytest.mark.compare
def test_choices_stay_in_float32(torch, tmp_path):
    directory = save_tiny(tmp_path / "model", "attention")
    model = open_program(directory, dtype=torch.bfloat16)
    assert model.attention_received.share.dtype == torch.float32
    assert model.classifier.weight.dtype == torch.bfloat16
    batch = make_batch((16, 5), num_slots=16)
    with torch.no_grad():
        found = model(**{name: torch.from_numpy(array) for name, array in feeds_of(batch).items()})
    # The counts of this method depend on lengths alone.
    expected_BL = run_engine(directory, batch)[1]
    np.testing.assert_array_equal(found.kept.sum(dim=1).numpy(), expected_BL.sum(axis=1))


@pytest.mark.compare
@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
def test_texts_have_the_library_s_probabilities(torch, tmp_path, texts):
    transformers = pytest.importorskip("transformers")
    directory = save_tiny(tmp_path / "model", "adapler", class_names=NAMES, max_length=MAX_LENGTH)
    model = open_program(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs, labels=torch.zeros(len(texts), dtype=torch.long))
    expected_MC = Classifier.load(directory, driver="masked").predict_probs(texts)
    np.testing.assert_allclose(found.logits.softmax(-1).numpy(), expected_MC, atol=1e-5)
    assert abs(found.loss.item() + np.mean(np.log(expected_MC[:, 0]))) < 1e-5
    assert tuple(model.config.id2label.values()) == NAMES


@pytest.mark.compare
def test_a_pipeline_needs_no_jax(torch, tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler", class_names=NAMES, max_length=MAX_LENGTH)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = Classifier.load(directory).predict(["w1 w2 w3", "w7 w8 w9 w3 w2"])
    assert done.stdout.strip() == str([found.label for found in expected])


@pytest.mark.compare
def test_without_trust_the_weights_are_plain_bert(torch, tmp_path):
    transformers = pytest.importorskip("transformers")
    directory = save_tiny(tmp_path / "model", "adapler")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory)
    assert type(model).__name__ == "BertForSequenceClassification"


@pytest.mark.compare
def test_a_copy_by_transformers_still_drops_tokens(torch, tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler")
    open_program(directory).save_pretrained(tmp_path / "copy")
    feeds = feeds_of(make_batch((12, 7, 1, 5), num_slots=12))
    expected_BC, expected_BL = run_program(torch, directory, feeds)
    logits_BC, kept_BL = run_program(torch, tmp_path / "copy", feeds)
    np.testing.assert_array_equal(logits_BC, expected_BC)
    np.testing.assert_array_equal(kept_BL, expected_BL)


@pytest.mark.compare
def test_a_cross_encoder_drops_the_tokens_of_a_reranker(torch, tmp_path):
    cross_encoder = pytest.importorskip("sentence_transformers").CrossEncoder
    directory = save_tiny(tmp_path / "model", "adapler", head=regression("sigmoid"))
    assert has_program(directory)
    ours = Reranker.load(directory, driver="masked")
    pruned = cross_encoder(str(directory), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(pruned.predict(PAIRS), ours.predict(PAIRS), atol=1e-5)
    dense = cross_encoder(str(directory), device="cpu")
    assert np.abs(dense.predict(PAIRS) - ours.predict(PAIRS)).max() > 1e-3
