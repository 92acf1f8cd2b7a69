"""transformers.ModernBert and this library compute equal states and logits."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the live comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax.inference.classifier import Classifier  # noqa: E402
from adapler_jax.inference.engine import make_engine, prepare_inference_params  # noqa: E402
from adapler_jax.pruning import keep_all  # noqa: E402
from adapler_jax.types import Batch  # noqa: E402
from adapler_jax.weights.pretrained import load_pretrained  # noqa: E402
from adapler_jax.weights.save import load_model, save_model  # noqa: E402
from adapler_jax.weights.score_heads import head_of_checkpoint  # noqa: E402
from tests.data.conftest import build_tokenizer  # noqa: E402
from tests.encoders.made_modernbert import (  # noqa: E402
    ROPE,
    old_form,
    rewrite_config,
    torch_model,
)
from tests.marks import mostly_long  # noqa: E402

pytestmark = pytest.mark.compare
KEY = jax.random.key(0)
SAME_THETA = {kind: {"rope_type": "default", "rope_theta": 160000.0} for kind in ROPE}
KINDS = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
VARIANTS = {
    "2 layers": {"num_hidden_layers": 2},
    "22 layers": {"num_hidden_layers": 22, "initializer_range": 0.1},
    "4 heads, one theta": {"num_attention_heads": 4, "rope_parameters": SAME_THETA},
    "kinds of layers, silu, epsilon": {
        "layer_types": KINDS,
        "hidden_activation": "silu",
        "classifier_activation": "relu",
        "norm_eps": 1e-2,
    },
    "window of 64": {"local_attention": 128, "hidden_size": 32, "num_hidden_layers": 5},
}


def make_batch(lengths, num_slots=None):
    """Texts of random tokens."""
    rng = np.random.default_rng(0)
    valid_BL = np.arange(num_slots or max(lengths)) < np.array(lengths)[:, None]
    return Batch(
        token_BL=np.where(valid_BL, rng.integers(1, 50, valid_BL.shape), 0).astype(np.int32),
        segment_BL=np.zeros(valid_BL.shape, np.int32),
        valid_BL=valid_BL,
        label_B=np.zeros(len(lengths), np.int32),
        example_id_B=np.arange(len(lengths), dtype=np.int32),
    )


def torch_results(model, batch):
    """Last states and logits of transformers."""
    with torch.no_grad():
        inputs = {
            "input_ids": torch.tensor(batch.token_BL, dtype=torch.long),
            "attention_mask": torch.tensor(batch.valid_BL, dtype=torch.long),
        }
        return model.model(**inputs).last_hidden_state.numpy(), model(**inputs).logits.numpy()


def results(loaded, batch, driver="masked", buckets=(64, 320)):
    """Last states and logits of this library."""
    params = loaded.params | {"pruner": {}}
    if driver != "masked":
        params = prepare_inference_params(params, loaded.config)
    engine = make_engine(
        loaded.config, keep_all(), driver=driver, buckets=buckets, return_exit_hidden=True
    )
    logits_BC, trace = engine(params, batch)
    return np.asarray(trace.exit_hidden_BLD), np.asarray(logits_BC)


@pytest.mark.parametrize("form", ["newer", "older"])
@pytest.mark.parametrize("name", VARIANTS)
def test_states_and_logits_are_those_of_transformers(name, form, tmp_path):
    model = torch_model(**VARIANTS[name])
    model.save_pretrained(tmp_path)
    if form == "older":
        if "layer_types" in VARIANTS[name]:
            pytest.skip("older files have no kinds of layers")
        rewrite_config(tmp_path, old_form)
    loaded = load_pretrained(tmp_path, KEY)
    for lengths, num_slots in (((300, 1, 37), None), ((20, 20), None), ((1,), 1)):
        batch = make_batch(lengths, num_slots)
        expected_BLD, expected_BC = torch_results(model, batch)
        found_BLD, found_BC = results(loaded, batch)
        np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
        is_text_BL1 = batch.valid_BL[..., None]
        np.testing.assert_allclose(
            found_BLD, np.where(is_text_BL1, expected_BLD, 0.0), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("driver", mostly_long(["masked", "bucketed", "packed"], quick=["masked"]))
def test_states_of_long_texts_are_those_of_transformers(driver, tmp_path):
    model = torch_model(local_attention=128, max_position_embeddings=1024, initializer_range=0.2)
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY)
    batch = make_batch((1000, 257, 1, 64, 65, 513))
    expected_BLD, expected_BC = torch_results(model, batch)
    found_BLD, found_BC = results(loaded, batch, driver, buckets=(64, 256, 320, 1000))
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    expected_BLD = np.where(batch.valid_BL[..., None], expected_BLD, 0.0)
    np.testing.assert_allclose(found_BLD, expected_BLD, atol=1e-5, rtol=0)


def test_folders_of_an_encoder_and_of_a_language_model_give_their_states(tmp_path):
    batch = make_batch((30, 12))
    for kind in ("ModernBertModel", "ModernBertForMaskedLM"):
        model = torch_model(kind)
        model.save_pretrained(tmp_path / kind)
        loaded = load_pretrained(tmp_path / kind, KEY, num_classes=3)
        encoder = model if kind == "ModernBertModel" else model.model
        with torch.no_grad():
            expected_BLD = encoder(
                input_ids=torch.tensor(batch.token_BL, dtype=torch.long),
                attention_mask=torch.tensor(batch.valid_BL, dtype=torch.long),
            ).last_hidden_state.numpy()
        found_BLD, _ = results(loaded, batch)
        expected_BLD = np.where(batch.valid_BL[..., None], expected_BLD, 0.0)
        np.testing.assert_allclose(found_BLD, expected_BLD, atol=1e-5, rtol=0)
        assert ("pooler" in loaded.fresh) == (kind == "ModernBertModel")
        assert "classifier" in loaded.fresh
        if kind == "ModernBertForMaskedLM":
            np.testing.assert_array_equal(
                loaded.params["head"]["pooler"]["kernel"].T, model.head.dense.weight.detach()
            )


def save_ours(folder, out, *, tokenizer=None):
    """A folder of transformers, loaded and saved by this library."""
    head = head_of_checkpoint(folder)
    loaded = load_pretrained(folder, KEY, head=head)
    save_model(
        out,
        loaded.params | {"pruner": {}},
        loaded.config,
        head=head,
        class_names=("bad", "so-so", "good"),
        max_length=64,
        tokenizer=tokenizer,
    )
    return out


@pytest.mark.parametrize("pooling", mostly_long(["cls", "mean"], quick=["mean"]))
def test_a_saved_model_of_either_pooling_is_that_of_transformers_again(pooling, tmp_path):
    model = torch_model(classifier_pooling=pooling)
    model.save_pretrained(tmp_path / "theirs")
    folder = save_ours(tmp_path / "theirs", tmp_path / "ours")
    saved = load_model(folder)
    batch = make_batch((64, 1, 33))
    _, expected_BC = torch_results(model, batch)
    for driver in ("masked", "bucketed", "packed"):
        params = saved.params
        if driver != "masked":
            params = prepare_inference_params(params, saved.config)
        engine = make_engine(saved.config, keep_all(), driver=driver, head=saved.head)
        found_BC, _ = engine(params, batch)
        np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    read, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    assert type(read).__name__ == "ModernBertForSequenceClassification"
    assert read.config.classifier_pooling == pooling
    assert read.config.layer_types == model.config.layer_types
    np.testing.assert_allclose(torch_results(read.eval(), batch)[1], expected_BC, atol=1e-6)


def test_a_head_of_the_other_pooling_is_refused_in_one_line(tmp_path):
    torch_model(classifier_pooling="mean").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has classifier_pooling 'mean', and the head class"):
        load_pretrained(tmp_path, KEY)


def test_classifier_gives_the_probabilities_of_transformers(tmp_path):
    tokenizer = build_tokenizer()
    model = torch_model(classifier_pooling="mean", vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    folder = save_ours(tmp_path / "theirs", tmp_path / "ours", tokenizer=tmp_path / "theirs")
    read = transformers.AutoConfig.from_pretrained(folder)
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert (read.cls_token_id, read.sep_token_id) == ends
    assert (read.bos_token_id, read.eos_token_id) == ends
    assert read.pad_token_id == tokenizer.pad_token_id
    texts = [("a good film . not bad",), ("bad",), ("a film", "not a good film")]
    classifier = Classifier.load(folder)
    found = classifier.predict([text for (text,) in texts[:2]]) + classifier.predict(texts[2:])
    for text, answer in zip(texts, found):
        ids = tokenizer(*text).input_ids
        with torch.no_grad():
            logits_C = model(input_ids=torch.tensor([ids])).logits[0]
        expected_C = torch.softmax(logits_C, -1).numpy()
        np.testing.assert_allclose(list(answer.probabilities.values()), expected_C, atol=1e-5)
