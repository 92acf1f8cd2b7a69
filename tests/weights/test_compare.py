"""transformers.BertModel and this library read each other's models with equal results."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the live comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from adapler_jax.heads import classify, init_classifier  # noqa: E402
from adapler_jax.types import EncoderConfig  # noqa: E402
from adapler_jax.weights.pretrained import load_pretrained  # noqa: E402
from adapler_jax.weights.save import load_model, save_model  # noqa: E402
from tests.plain_bert import encode, init_encoder, linear  # noqa: E402

pytestmark = pytest.mark.compare
KEY = jax.random.key(0)

# Wide initial values, so that attention and activations leave their linear range.
SIZES = {
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 12,
    "initializer_range": 0.3,
}
VARIANTS = {
    "plain": {},
    "gelu_new, one segment": {"hidden_act": "gelu_new", "type_vocab_size": 1},
    "relu, large epsilon": {"hidden_act": "relu", "layer_norm_eps": 1e-2},
    "silu, four heads": {"hidden_act": "silu", "num_attention_heads": 4},
    "tanh": {"hidden_act": "gelu_pytorch_tanh", "num_hidden_layers": 2},
}


def torch_model(seed=0, kind="BertModel", **changes):
    torch.manual_seed(seed)
    config = transformers.BertConfig(**(SIZES | changes), attn_implementation="eager")
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if (
                name.endswith("bias") or "LayerNorm" in name
            ):  # fresh ones are 0 and 1 and would hide a mix-up
                value.add_(0.2 * torch.randn_like(value))
    return model


FAMILY = {
    "RobertaModel": {
        "vocab_size": 50,
        "max_position_embeddings": 14,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "RobertaForSequenceClassification": {
        "max_position_embeddings": 14,
        "type_vocab_size": 1,
        "num_labels": 3,
    },
    "RobertaForMaskedLM": {"max_position_embeddings": 14, "type_vocab_size": 1},
    "XLMRobertaModel": {"max_position_embeddings": 14, "type_vocab_size": 1},
    "DistilBertModel": {},
    "DistilBertForSequenceClassification": {"num_labels": 3},
    "DistilBertForMaskedLM": {},
}
DISTILBERT_SIZES = {
    "n_layers": 4,
    "n_heads": 2,
    "dim": 16,
    "hidden_dim": 24,
    "vocab_size": 50,
    "max_position_embeddings": 12,
    "initializer_range": 0.3,
}


def family_model(kind):
    """A random RoBERTa or DistilBERT of PyTorch."""
    torch.manual_seed(4)
    model_class = getattr(transformers, kind)
    sizes = DISTILBERT_SIZES if kind.startswith("Distil") else SIZES
    model = model_class(
        model_class.config_class(**(sizes | FAMILY[kind]), attn_implementation="eager")
    ).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias") or "orm" in name:
                value.add_(0.2 * torch.randn_like(value))
    return model


@pytest.mark.parametrize("kind", FAMILY)
def test_encoders_of_the_family_equal_pytorch(tmp_path, kind):
    model = family_model(kind)
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY)
    token_BL, segment_BL, valid_BL = make_inputs(1)
    token_BL = np.where(token_BL == 1, 2, token_BL)  # RoBERTa's padding, which no text may contain
    token_BL = np.where(valid_BL, token_BL, 1)
    assert loaded.config.num_positions == 12 and loaded.config.num_segments == 1
    hidden_BLD = encode(
        loaded.params["encoder"], loaded.config, *map(jnp.asarray, (token_BL, segment_BL, valid_BL))
    )
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(token_BL, dtype=torch.long),
            attention_mask=torch.tensor(valid_BL, dtype=torch.long),
            output_hidden_states=True,
        )
    np.testing.assert_allclose(
        np.asarray(hidden_BLD)[valid_BL],
        expected.hidden_states[-1].numpy()[valid_BL],
        atol=1e-5,
        rtol=1e-5,
    )
    if kind.endswith("SequenceClassification"):
        logits_BC = classify(loaded.params["head"], loaded.config, hidden_BLD[:, 0])
        np.testing.assert_allclose(logits_BC, expected.logits.numpy(), atol=1e-5, rtol=1e-5)
        assert loaded.notes == ()
    if kind.endswith("MaskedLM"):
        assert any(note.startswith("ignored: ") for note in loaded.notes)
    # PyTorch computes the same with our saved model: a DistilBERT if it was one, else a BERT.
    save_model(tmp_path / "ours", loaded.params, loaded.config)
    back = load_model(tmp_path / "ours")
    assert back.config == loaded.config
    saved = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    assert type(saved).__name__ == ("DistilBertModel" if kind.startswith("Distil") else "BertModel")
    with torch.no_grad():
        found = saved(
            torch.tensor(token_BL, dtype=torch.long), torch.tensor(valid_BL, dtype=torch.long)
        )
    found = found.last_hidden_state
    np.testing.assert_allclose(
        found.numpy()[valid_BL], np.asarray(hidden_BLD)[valid_BL], atol=1e-5, rtol=1e-5
    )


def make_inputs(num_segments, seed=0):
    """A padded batch: rows of 12, 7 and 2 live tokens."""
    rng = np.random.default_rng(seed)
    token_BL = rng.integers(0, 50, (3, 12)).astype(np.int32)
    segment_BL = rng.integers(0, num_segments, (3, 12)).astype(np.int32)
    valid_BL = np.arange(12) < np.array([[12], [7], [2]])
    return token_BL, segment_BL, valid_BL


def run_torch(model, token_BL, segment_BL, valid_BL):
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(token_BL, dtype=torch.long),
            token_type_ids=torch.tensor(segment_BL, dtype=torch.long),
            attention_mask=torch.tensor(valid_BL, dtype=torch.long),
        )


def assert_same_states(model, params, config, seed=0):
    """Last states of live tokens and the pooled [CLS] agree with PyTorch to 1e-5."""
    inputs = make_inputs(config.num_segments, seed)
    expected = run_torch(model, *inputs)
    hidden_BLD = encode(params["encoder"], config, *(jnp.asarray(value) for value in inputs))
    valid_BL = inputs[2]
    np.testing.assert_allclose(
        np.asarray(hidden_BLD)[valid_BL],
        expected.last_hidden_state.numpy()[valid_BL],
        atol=1e-5,
        rtol=1e-5,
    )
    pooled_BD = jnp.tanh(linear(params["head"]["pooler"], hidden_BLD[:, 0]))
    np.testing.assert_allclose(pooled_BD, expected.pooler_output.numpy(), atol=1e-5, rtol=1e-5)


def write_bin(model, directory, num_shards=1):
    """The directory as PyTorch users wrote it before safetensors."""
    directory.mkdir()
    model.config.save_pretrained(directory)
    state = model.state_dict()
    if num_shards == 1:
        torch.save(state, directory / "pytorch_model.bin")
        return directory
    weight_map = {
        name: f"pytorch_model-{index % num_shards}.bin" for index, name in enumerate(sorted(state))
    }
    for shard in set(weight_map.values()):
        torch.save(
            {name: state[name] for name in state if weight_map[name] == shard}, directory / shard
        )
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def random_params(config, num_classes=3, predictor_dim=5):
    """A whole AdapLeR tree of random numbers, drawn by NumPy because that compiles nothing."""
    N, D, P = config.num_layers, config.hidden_dim, predictor_dim
    shapes = {
        "encoder": jax.eval_shape(lambda: init_encoder(KEY, config)),
        "head": jax.eval_shape(lambda: init_classifier(KEY, config, num_classes)),
        "pruner": {
            "hidden": {"kernel": np.empty((N, D, P)), "bias": np.empty((N, P))},
            "score": {"kernel": np.empty((N, P, 1)), "bias": np.empty((N, 1))},
            "threshold_N": np.empty(N),
            "cls_ratio_N": np.empty(N),
        },
    }
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), shapes
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_encoder_equals_pytorch(tmp_path, variant):
    model = torch_model(**VARIANTS[variant])
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY)
    assert_same_states(model, loaded.params, loaded.config)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_pytorch_file_equals_pytorch(tmp_path, num_shards):
    model = torch_model(seed=1)
    loaded = load_pretrained(write_bin(model, tmp_path / "bin", num_shards), KEY)
    assert_same_states(model, loaded.params, loaded.config, seed=1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_pytorch_file_is_read_exactly(tmp_path, dtype):
    model = torch_model(seed=2).to(getattr(torch, dtype))
    loaded = load_pretrained(write_bin(model, tmp_path / "bin"), KEY)
    assert f"converted to float32 from {dtype}" in loaded.notes
    assert_same_states(model.float(), loaded.params, loaded.config)


def test_logits_of_a_sequence_classifier_equal_pytorch(tmp_path):
    model = torch_model(kind="BertForSequenceClassification", id2label={0: "a", 1: "b", 2: "c"})
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY)
    inputs = make_inputs(2)
    hidden_BLD = encode(
        loaded.params["encoder"], loaded.config, *(jnp.asarray(value) for value in inputs)
    )
    logits_BC = classify(loaded.params["head"], loaded.config, hidden_BLD[:, 0])
    np.testing.assert_allclose(
        logits_BC, run_torch(model, *inputs).logits.numpy(), atol=1e-5, rtol=1e-5
    )
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.notes == ()


def test_pretraining_checkpoint_loads_and_its_heads_are_noted(tmp_path):
    model = torch_model(kind="BertForPreTraining")
    model.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path, KEY, num_classes=2)
    assert any(note.startswith("ignored: ") and "cls.*" in note for note in loaded.notes)
    assert_same_states(model.bert, loaded.params, loaded.config)


def test_pytorch_file_that_is_damaged_or_runs_code_is_refused(tmp_path):
    directory = write_bin(torch_model(), tmp_path / "bin")
    path = directory / "pytorch_model.bin"
    data = path.read_bytes()
    for content in (data[:-500], data[:100], b"", b"no pickle at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"pytorch_model\.bin .*(corrupt|damaged)"):
            load_pretrained(directory, KEY)
    torch.save(test_pytorch_file_that_is_damaged_or_runs_code_is_refused, path)
    with pytest.raises(ValueError, match="holds more than tensors"):
        load_pretrained(directory, KEY)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match="does not hold a plain dict of tensors"):
        load_pretrained(directory, KEY)


@pytest.mark.parametrize("variant", ["plain", "gelu_new, one segment"])
def test_saved_model_loads_into_pytorch_unchanged(tmp_path, variant):
    changes = SIZES | VARIANTS[variant]
    config = EncoderConfig(
        num_layers=changes["num_hidden_layers"],
        num_heads=changes["num_attention_heads"],
        hidden_dim=16,
        ffn_dim=24,
        vocab_size=50,
        num_positions=12,
        num_segments=changes.get("type_vocab_size", 2),
        activation=changes.get("hidden_act", "gelu"),
        norm_epsilon=changes.get("layer_norm_eps", 1e-12),
    )
    params = random_params(config)
    save_model(
        tmp_path / "model", params, config, pruner_name="adapler", class_names=("a", "b", "c")
    )

    model, info = transformers.BertModel.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert all(
        name.startswith(("contribution_predictor.", "classifier."))
        for name in info["unexpected_keys"]
    )
    assert_same_states(model.eval(), params, config)


def test_saved_model_loads_into_a_pytorch_sequence_classifier_and_comes_back(tmp_path):
    torch_model(seed=3).save_pretrained(tmp_path / "base")
    loaded = load_pretrained(tmp_path / "base", KEY, num_classes=2)
    directory = save_model(
        tmp_path / "model", loaded.params, loaded.config, class_names=("no", "yes")
    )
    model, info = transformers.BertForSequenceClassification.from_pretrained(
        directory, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.config.id2label == {0: "no", 1: "yes"}
    inputs = make_inputs(2)
    hidden_BLD = encode(
        loaded.params["encoder"], loaded.config, *(jnp.asarray(value) for value in inputs)
    )
    logits_BC = classify(loaded.params["head"], loaded.config, hidden_BLD[:, 0])
    np.testing.assert_allclose(
        logits_BC, run_torch(model.eval(), *inputs).logits.numpy(), atol=1e-5, rtol=1e-5
    )
    model.save_pretrained(tmp_path / "back")
    jax.tree.map(
        np.testing.assert_array_equal,
        load_pretrained(tmp_path / "back", KEY).params,
        {
            "encoder": load_model(directory).params["encoder"],
            "head": load_model(directory).params["head"],
        },
    )


@pytest.mark.parametrize("keys", [("state_dict",), ("model",), ("model_state_dict", "module")])
def test_the_tensors_of_training_loops_files_are_found(tmp_path, keys):
    model = torch_model(seed=1)
    directory = write_bin(model, tmp_path / "bin")
    stored = {f"model.{name}": value for name, value in model.state_dict().items()}
    for key in reversed(keys):
        stored = {key: stored, "epoch": 3}
    torch.save(stored, directory / "pytorch_model.bin")
    loaded = load_pretrained(directory, KEY)
    table = loaded.params["encoder"]["embeddings"]["token"]
    np.testing.assert_array_equal(table, model.embeddings.word_embeddings.weight.detach().numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.float8_e4m3fn), "stored as torch.float8_e4m3fn"),
        (
            lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            "stored as torch.qint8",
        ),
        (lambda value: value.to(torch.complex64), "stored as torch.complex64"),
        (lambda value: value.to_sparse(), "is sparse or without values"),
        (lambda value: 3, "is no tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_pytorch_tensors_of_other_kinds_are_refused_by_name(tmp_path, change, message):
    directory = write_bin(torch_model(), tmp_path / "bin")
    state = torch.load(directory / "pytorch_model.bin")
    state["pooler.dense.weight"] = change(state["pooler.dense.weight"])
    torch.save(state, directory / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="pytorch_model.bin.*(pooler.dense.weight.*)?" + message
    ) as caught:
        load_pretrained(directory, KEY)
    assert "pooler.dense.weight" in str(caught.value)
