"""Folders of sentence-transformers are read and written; what they have and we lack is named."""

import json

import numpy as np
import pytest
import safetensors.numpy

from adapler_jax.heads import CLASSIFICATION, embedding
from adapler_jax.inference.embedder import Embedder
from adapler_jax.weights.folders import load_folder
from adapler_jax.weights.score_heads import head_of_checkpoint
from adapler_jax.weights.sentence_modules import is_sentence_folder, read_modules
from tests.export.onnx_models import save_tiny

DENSE = embedding("cls", dense_dim=7, dense_activation="identity")
TEXTS = ["w1 w2 w3", "w4", "", "w5 " * 40]
NEW_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def change(path, **fields):
    """Change fields of a JSON object in a file; None removes a field."""
    raw = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in raw.items() if value is not None}))


def make_foreign(folder):
    """Leave of a saved model what other programs write."""
    change(folder / "config.json", adapler_jax=None)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    plain = {name: x for name, x in tensors.items() if not name.startswith("sentence_dense")}
    safetensors.numpy.save_file(plain, folder / "model.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder of another program with a dense layer."""
    return make_foreign(save_tiny(tmp_path / "model", "keep_all", head=DENSE, max_length=12))


@pytest.mark.parametrize("head", [embedding(), embedding("cls", normalizes=False), DENSE])
def test_a_saved_model_has_equal_modules_and_vectors(tmp_path, head):
    saved = save_tiny(tmp_path / "model", "keep_all", head=head, max_length=12)
    expected = Embedder.load(saved).encode(TEXTS)
    assert read_modules(saved).head is head and read_modules(saved).max_length == 12
    found = Embedder.load(make_foreign(saved))
    assert found.max_length == 12 and found.normalizes == dict(head.factory_kwargs)["normalizes"]
    np.testing.assert_array_equal(found.encode(TEXTS), expected)


def test_newer_names_of_modules_and_poolings_are_read(folder):
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = NEW_TYPES[module["type"].rpartition(".")[2]]
    (folder / "modules.json").write_text(json.dumps(modules))
    new = {"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(new))
    expected = embedding(dense_dim=7, dense_activation="identity")
    assert read_modules(folder).head is expected and is_sentence_folder(folder)
    assert head_of_checkpoint(folder) is expected


def test_a_bias_may_be_missing(folder):
    path = folder / "2_Dense" / "model.safetensors"
    weight = safetensors.numpy.load_file(path)["linear.weight"]
    safetensors.numpy.save_file({"linear.weight": weight}, path)
    dense = load_folder(folder).params["head"]["dense"]
    np.testing.assert_array_equal(dense["kernel"], weight.T)
    assert dense["bias"].tolist() == [0.0] * 7


def test_the_length_of_texts_may_be_the_tokenizers(folder):
    change(folder / "sentence_bert_config.json", max_seq_length=None)
    change(folder / "tokenizer_config.json", model_max_length=9)
    assert Embedder.load(folder).max_length == 9
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    assert Embedder.load(folder).max_length == 16  # the positions of the model


def edit_modules(folder, edit):
    """Change the list of modules."""
    modules = json.loads((folder / "modules.json").read_text())
    edit(modules)
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda folder: edit_modules(
                folder, lambda x: x[2].update(type="sentence_transformers.models.LSTM")
            ),
            "module 2 is 'sentence_transformers.models.LSTM'; this library computes Transformer,",
        ),
        (
            lambda folder: edit_modules(folder, lambda x: x.insert(2, x[2])),
            "Transformer, Pooling, Dense, Dense; expected Transformer, Pooling, at most one Dense",
        ),
        (lambda folder: edit_modules(folder, lambda x: x.pop(0)), "a Transformer and a Pooling"),
        (
            lambda folder: edit_modules(folder, lambda x: x[0].update(path="0_Transformer")),
            "has the encoder in .*0_Transformer; move its files",
        ),
        (
            lambda folder: edit_modules(folder, lambda x: x[1].update(path="../1_Pooling")),
            "module 1 is",
        ),
        (
            lambda folder: change(folder / "1_Pooling" / "config.json", pooling_mode="max"),
            "has the pooling max; this library computes mean or cls",
        ),
        (
            lambda folder: change(
                folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True
            ),
            "has the pooling cls, mean; this library",
        ),
        (
            lambda folder: change(folder / "1_Pooling" / "config.json", include_prompt=False),
            "include_prompt is False; this library pools all tokens",
        ),
        (
            lambda folder: change(
                folder / "2_Dense" / "config.json", activation_function="torch.nn.GELU"
            ),
            "activation_function is 'torch.nn.GELU'; expected torch.nn.modules.linear.Identity or",
        ),
        (
            lambda folder: change(folder / "2_Dense" / "config.json", use_residual=True),
            "use_residual is set",
        ),
        (
            lambda folder: change(folder / "2_Dense" / "config.json", out_features=8),
            r"sentence_dense.weight: .*expected \(8, 16\)",
        ),
        (
            lambda folder: (folder / "2_Dense" / "model.safetensors").unlink(),
            "2_Dense holds no weights; expected one of model.safetensors, pytorch_model.bin",
        ),
        (
            lambda folder: change(folder / "sentence_bert_config.json", max_seq_length="long"),
            "max_seq_length is 'long'; expected a positive integer",
        ),
        (
            lambda folder: change(
                folder / "config_sentence_transformers.json", default_prompt_name="query"
            ),
            "default_prompt_name is 'query', which prompts lacks",
        ),
        (
            lambda folder: change(folder / "config_sentence_transformers.json", prompts=["a"]),
            "prompts is .*; expected an object of texts",
        ),
        (lambda folder: (folder / "modules.json").write_text("{"), "is not valid JSON"),
    ],
)
def test_what_is_not_computed_is_named(folder, edit, message):
    edit(folder)
    with pytest.raises(ValueError, match=message) as caught:
        Embedder.load(folder)
    assert "\n" not in str(caught.value)


def test_capitals_that_a_tokenizer_keeps_are_named(folder):
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    Embedder.load(folder)  # its tokenizer makes texts lower case itself
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="do_lower_case is set, and the tokenizer keeps capitals"):
        Embedder.load(folder)


def test_a_plain_encoder_needs_a_pooling(folder, tmp_path):
    with pytest.raises(ValueError, match="pooling is 'mean', and .* names its own; leave it out"):
        Embedder.load(folder, pooling="mean")
    (folder / "modules.json").unlink()
    with pytest.raises(ValueError, match="has no modules.json .* give pooling='mean' or 'cls'"):
        Embedder.load(folder)
    found = Embedder.load(folder, pooling="mean")
    assert found.dim == 16 and not found.normalizes
    classes = save_tiny(tmp_path / "classes", "keep_all", head=CLASSIFICATION)
    with pytest.raises(ValueError, match="the head 'classification', which gives no vectors"):
        Embedder.load(classes)


def test_prompts_and_similarity_of_a_folder_are_kept(tmp_path):
    head = embedding(normalizes=False)
    folder = make_foreign(save_tiny(tmp_path / "model", "keep_all", head=head, max_length=12))
    settings = folder / "config_sentence_transformers.json"
    change(settings, prompts={"query": "", "document": "w1 "}, similarity_fn_name="dot")
    found = Embedder.load(folder)
    np.testing.assert_array_equal(found.encode(TEXTS, prompt_name="query"), found.encode(TEXTS))
    vectors = found.encode(TEXTS[:2])
    np.testing.assert_allclose(found.similarity(vectors, vectors), vectors @ vectors.T, rtol=1e-6)
    change(settings, similarity_fn_name="euclidean")
    with pytest.raises(ValueError, match="similarity_fn_name is 'euclidean'; .* cosine and dot"):
        Embedder.load(folder)
