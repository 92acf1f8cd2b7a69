"""Every format and naming variant of a checkpoint is loaded, or ends in a clear error."""

import json
import sys

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from adapler_jax.weights.pretrained import load_pretrained
from tests.tiny import assert_trees_equal

KEY = jax.random.key(0)


def to_flax(tensors):
    """The nested tree of a Flax BERT with the same numbers."""
    flat = {}
    for name, value in tensors.items():
        *keys, leaf = name.split(".")
        if leaf == "weight" and keys[-1].endswith("embeddings"):
            leaf = "embedding"
        elif leaf == "weight" and keys[-1] == "LayerNorm":
            leaf = "scale"
        elif leaf == "weight":
            leaf = "kernel"
        array = value.T if leaf == "kernel" else value
        flat[(*keys, leaf)] = np.ascontiguousarray(array)
    return unflatten_dict(flat)


def write_shards(directory, tensors, num_shards=3):
    names = sorted(tensors)
    weight_map = {name: f"model-{i % num_shards}.safetensors" for i, name in enumerate(names)}
    for shard in sorted(set(weight_map.values())):
        part = {name: tensors[name] for name in names if weight_map[name] == shard}
        safetensors.numpy.save_file(part, directory / shard)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_tensors_land_in_their_leaves(write_checkpoint, tensors):
    loaded = load_pretrained(write_checkpoint(tensors), KEY)
    encoder, head = loaded.params["encoder"], loaded.params["head"]
    np.testing.assert_array_equal(
        encoder["embeddings"]["token"], tensors["bert.embeddings.word_embeddings.weight"]
    )
    for layer in range(4):
        name = f"bert.encoder.layer.{layer}"
        np.testing.assert_array_equal(
            encoder["layers"]["key"]["kernel"][layer],
            tensors[f"{name}.attention.self.key.weight"].T,
        )
        np.testing.assert_array_equal(
            encoder["layers"]["ffn_norm"]["scale"][layer],
            tensors[f"{name}.output.LayerNorm.weight"],
        )
        np.testing.assert_array_equal(
            encoder["layers"]["ffn_out"]["kernel"][layer], tensors[f"{name}.output.dense.weight"].T
        )
    np.testing.assert_array_equal(head["classifier"]["kernel"], tensors["classifier.weight"].T)
    assert loaded.class_names == ("bad", "so-so", "good")
    assert loaded.notes == ()


def test_shards_equal_the_single_file(write_checkpoint, write_config, raw_config, tensors):
    directory = write_config(raw_config, "sharded")
    write_shards(directory, tensors)
    single = load_pretrained(write_checkpoint(tensors), KEY)
    assert_trees_equal(load_pretrained(directory, KEY).params, single.params)


@pytest.mark.parametrize("with_prefix", [True, False])
def test_flax_file_equals_the_safetensors_file(
    write_checkpoint, write_config, raw_config, tensors, with_prefix
):
    names = (
        tensors
        if with_prefix
        else {name.removeprefix("bert."): value for name, value in tensors.items()}
    )
    directory = write_config(raw_config, "flax")
    (directory / "flax_model.msgpack").write_bytes(
        flax.serialization.msgpack_serialize(to_flax(names))
    )
    single = load_pretrained(write_checkpoint(tensors), KEY)
    assert_trees_equal(load_pretrained(directory, KEY).params, single.params)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removeprefix("bert."),
        lambda name: f"module.{name}",
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
    ],
)
def test_old_and_short_names_give_the_same_params(write_checkpoint, tensors, rename):
    renamed = {rename(name): value for name, value in tensors.items()}
    expected = load_pretrained(write_checkpoint(tensors), KEY)
    found = load_pretrained(write_checkpoint(renamed, name="renamed"), KEY)
    assert_trees_equal(found.params, expected.params)


def test_missing_pooler_starts_the_head_afresh_and_says_so(write_checkpoint, tensors):
    encoder_only = {name: value for name, value in tensors.items() if name.startswith("bert.e")}
    directory = write_checkpoint(encoder_only)
    loaded = load_pretrained(directory, KEY, num_classes=5)
    assert loaded.params["head"]["classifier"]["kernel"].shape == (16, 5)
    assert [note.split(":")[0] for note in loaded.notes] == [
        "started afresh, pooler",
        "started afresh, classifier",
    ]
    assert loaded.class_names is None
    assert_trees_equal(load_pretrained(directory, KEY, num_classes=5).params, loaded.params)
    other = load_pretrained(directory, jax.random.key(1), num_classes=5)
    assert not np.array_equal(
        other.params["head"]["pooler"]["kernel"], loaded.params["head"]["pooler"]["kernel"]
    )


def test_classifier_without_its_pooler_is_not_taken(write_checkpoint, tensors):
    kept = {name: value for name, value in tensors.items() if "pooler" not in name}
    loaded = load_pretrained(write_checkpoint(kept), KEY)
    assert "started afresh, classifier: it needs the missing pooler" in loaded.notes
    assert loaded.params["head"]["classifier"]["kernel"].shape == (16, 3)
    assert not np.array_equal(
        loaded.params["head"]["classifier"]["kernel"], tensors["classifier.weight"].T
    )


def test_other_number_of_classes_keeps_the_pooler_and_renews_the_classifier(
    write_checkpoint, tensors
):
    loaded = load_pretrained(write_checkpoint(tensors), KEY, num_classes=2)
    np.testing.assert_array_equal(
        loaded.params["head"]["pooler"]["kernel"], tensors["bert.pooler.dense.weight"].T
    )
    assert loaded.params["head"]["classifier"]["bias"].shape == (2,)
    assert loaded.notes == (
        "started afresh, classifier: the checkpoint's has 3 classes, 2 are needed",
    )
    assert loaded.class_names is None


def test_buffers_and_other_heads_are_ignored_and_heads_noted(write_checkpoint, tensors):
    extra = {
        "bert.embeddings.position_ids": np.arange(12)[None],
        "cls.predictions.bias": np.zeros(50, np.float32),
        "cls.seq_relationship.weight": np.zeros((2, 16), np.float32),
        "contribution_predictor.threshold": np.zeros(4, np.float32),
    }
    expected = load_pretrained(write_checkpoint(tensors), KEY)
    loaded = load_pretrained(write_checkpoint(tensors | extra, name="extra"), KEY)
    assert_trees_equal(loaded.params, expected.params)
    assert loaded.notes == ("ignored: cls.* (2 tensors), contribution_predictor.*",)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_other_precisions_become_float32_and_are_noted(write_checkpoint, tensors, dtype):
    stored = {name: value.astype(dtype) for name, value in tensors.items()}
    loaded = load_pretrained(write_checkpoint(stored), KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {np.dtype(np.float32)}
    expected = stored["bert.embeddings.word_embeddings.weight"].astype(np.float32)
    np.testing.assert_array_equal(loaded.params["encoder"]["embeddings"]["token"], expected)
    assert loaded.notes == (f"converted to float32 from {np.dtype(dtype).name}",)


def test_more_positions_repeat_the_learnt_ones(write_checkpoint, tensors):
    directory = write_checkpoint(tensors)
    loaded = load_pretrained(directory, KEY, num_positions=30)
    learnt = tensors["bert.embeddings.position_embeddings.weight"]
    np.testing.assert_array_equal(
        loaded.params["encoder"]["embeddings"]["position"],
        np.concatenate([learnt, learnt, learnt[:6]]),
    )
    assert loaded.config.num_positions == 30
    assert loaded.notes == ("the 12 learnt positions were repeated to give 30",)
    assert load_pretrained(directory, KEY, num_positions=8).config.num_positions == 12


def test_the_classifiers_own_dropout_is_read(write_checkpoint, raw_config, tensors):
    loaded = load_pretrained(
        write_checkpoint(tensors, raw_config | {"classifier_dropout": 0.3}), KEY
    )
    assert loaded.config.classifier_dropout_prob == 0.3 and loaded.notes == ()


def test_all_mismatches_come_in_one_error(write_checkpoint, tensors):
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((49, 16), np.float32)
    tensors["bert.encoder.layer.0.adapter.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError) as caught:
        load_pretrained(write_checkpoint(tensors), KEY)
    message = str(caught.value)
    assert "model.safetensors do not fit its config.json (3 mismatches)" in message
    assert "bert.encoder.layer.1.output.dense.bias: missing, expected (16,)" in message
    assert "bert.embeddings.word_embeddings.weight: expected (50, 16), found (49, 16)" in message
    assert "bert.encoder.layer.0.adapter.weight: unexpected, found (2, 2)" in message


def test_layers_beyond_the_config_are_reported(write_checkpoint, raw_config, tensors):
    with pytest.raises(
        ValueError, match=r"layer\.\{2,3\}\.attention\.self\.key\.bias: unexpected, .*more"
    ):
        load_pretrained(write_checkpoint(tensors, raw_config | {"num_hidden_layers": 2}), KEY)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda data: data[:20], lambda _: b"", lambda _: b"x" * 99]
)
def test_damaged_safetensors_is_named(write_checkpoint, tensors, damage):
    path = write_checkpoint(tensors) / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"model\.safetensors \(\d+ bytes\) is truncated or corrupt"
    ):
        load_pretrained(path.parent, KEY)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda _: b"", lambda _: b"\x01" * 99, lambda _: b"\x91\1"]
)
def test_damaged_flax_file_is_named(write_config, raw_config, tensors, damage):
    path = write_config(raw_config) / "flax_model.msgpack"
    path.write_bytes(damage(flax.serialization.msgpack_serialize(to_flax(tensors))))
    with pytest.raises(
        ValueError, match=r"flax_model\.msgpack \(\d+ bytes\) is truncated or corrupt"
    ):
        load_pretrained(path.parent, KEY)


def test_missing_shards_are_all_named(write_config, raw_config, tensors):
    directory = write_config(raw_config)
    write_shards(directory, tensors)
    (directory / "model-0.safetensors").unlink()
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"files that are not there: model-0.safetensors, model-2.safetensors"
    ):
        load_pretrained(directory, KEY)
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map"):
        load_pretrained(directory, KEY)


def test_directory_without_weights_lists_what_was_looked_for(write_config, raw_config):
    with pytest.raises(
        ValueError,
        match=r"holds no weights; expected one of model.safetensors, .*flax_model.msgpack",
    ):
        load_pretrained(write_config(raw_config), KEY)


def test_pytorch_file_without_torch_says_what_to_do(write_config, raw_config, tensors, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    directory = write_config(raw_config)
    (directory / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ValueError, match=r"pytorch_model.bin needs torch"):
        load_pretrained(directory, KEY)
    (directory / "flax_model.msgpack").write_bytes(
        flax.serialization.msgpack_serialize(to_flax(tensors))
    )
    assert load_pretrained(directory, KEY).notes == ()


def test_other_architectures_are_refused_before_their_weights_are_read(write_config):
    with pytest.raises(ValueError, match="model_type is 'albert', expected one of bert, roberta"):
        load_pretrained(write_config({"model_type": "albert", "dim": 16}), KEY)
