"""Weights that would change the answer raise an error with their name; no file outside is read."""

import json

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model
from tests.weights.hostile import KEY, refused


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(saved, write_checkpoint, tensors, number):
    name = "bert.encoder.layer.2.output.dense.weight"
    tensors[name] = tensors[name].copy()
    tensors[name][3, 4] = number
    refused(
        load_pretrained,
        write_checkpoint(tensors),
        KEY,
        match=f"model.safetensors.*{name}: holds NaN or infinite",
    )
    directory = saved()
    safetensors.numpy.save_file(tensors, directory / "model.safetensors")
    refused(load_model, directory, match=f"model.safetensors.*{name}: holds NaN or infinite")


def test_numbers_beyond_float32_are_refused(write_checkpoint, tensors):
    wide = {name: value.astype(np.float64) for name, value in tensors.items()}
    wide["classifier.bias"][0] = 1e300
    refused(
        load_pretrained,
        write_checkpoint(wide),
        KEY,
        match="classifier.bias: holds NaN or infinite numbers",
    )


def test_float8_is_named_with_its_tensor(write_checkpoint, tensors):
    stored = tensors | {
        "classifier.weight": tensors["classifier.weight"].astype(ml_dtypes.float8_e4m3fn)
    }
    refused(
        load_pretrained,
        write_checkpoint(stored),
        KEY,
        match="model.safetensors .*classifier.weight is stored as F8_E4M3",
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            "bert.encoder.layer.0.attention.self.query.lora_A.default.weight",
            "lora_A.*: an adapter.*merge it",
        ),
        ("base_model.model.bert.encoder.layer.1.output.dense.lora_B.weight", "lora_B.*an adapter"),
        ("bert.encoder.layer.0.output.adapters.task.down.weight", "adapters.*an adapter"),
        ("classifier.modules_to_save.default.weight", "modules_to_save.*an adapter"),
        ("prompt_encoder.embedding.weight", "prompt_encoder.*an adapter"),
        (
            "bert.encoder.layer.0.output.dense.weight_orig",
            "weight_orig.*computed from .*save the plain weights",
        ),
        ("bert.encoder.layer.0.output.dense.parametrizations.weight.original0", "computed from"),
        ("bert.encoder.layer.0.output.dense.weight.SCB", "SCB.*quantised weights"),
        ("bert.encoder.layer.0.output.dense.qweight", "qweight.*quantised weights"),
        (
            "bert.encoder.layer.0.attention.self.distance_embedding.weight",
            "distance_embedding.weight: unexpected",
        ),
    ],
)
def test_tensors_that_change_the_answer_are_refused_by_name(
    write_checkpoint, tensors, extra, message
):
    refused(
        load_pretrained,
        write_checkpoint(tensors | {extra: np.zeros((2, 2), np.float32)}),
        KEY,
        match=message,
    )


def test_int8_weights_are_refused_by_name(write_checkpoint, tensors):
    stored = tensors | {"classifier.weight": np.zeros((3, 16), np.int8)}
    refused(
        load_pretrained,
        write_checkpoint(stored),
        KEY,
        match="classifier.weight: .* found int8: save .* without quant",
    )


def write_index(directory, shards, weight_map):
    """Write shards and an index of them."""
    for name, part in shards.items():
        (directory / name).parent.mkdir(exist_ok=True)
        safetensors.numpy.save_file(part, directory / name)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def test_shards_outside_the_folder_are_not_read(tmp_path, write_config, raw_config, tensors):
    other = tmp_path / "other"
    other.mkdir()
    safetensors.numpy.save_file(tensors, other / "model.safetensors")
    directory = write_config(raw_config, "sharded")
    (directory / "link.safetensors").symlink_to(other / "model.safetensors")
    (directory / "circle.safetensors").symlink_to(directory / "circle.safetensors")
    (directory / "folder").symlink_to(other)
    names = (
        "../other/model.safetensors",
        str(other / "model.safetensors"),
        "link.safetensors",
        "folder/model.safetensors",
        "sub/../../other/model.safetensors",
        "circle.safetensors",
        "a\0b",
        "",
        3,
        ["x"],
        "x" * 5000,
    )
    for name in names:
        write_index(directory, {}, dict.fromkeys(tensors, name))
        refused(
            load_pretrained,
            directory,
            KEY,
            match="index.json names the file .*not inside its folder",
        )


def test_shards_inside_the_folder_and_in_the_hubs_cache_are_read(
    tmp_path, write_config, raw_config, tensors
):
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    safetensors.numpy.save_file(tensors, cache / "blobs" / "0123")
    directory = write_config(raw_config).rename(cache / "snapshots" / "abc")
    (directory / "a.safetensors").symlink_to("../../blobs/0123")
    write_index(directory, {}, dict.fromkeys(tensors, "a.safetensors"))
    assert load_pretrained(directory, KEY).notes == ()
    (directory / "a.safetensors").unlink()
    write_index(
        directory, {"sub/a.safetensors": tensors}, dict.fromkeys(tensors, "sub/a.safetensors")
    )
    assert load_pretrained(directory, KEY).notes == ()


def test_the_index_decides_which_of_two_shards_holds_a_tensor(write_config, raw_config, tensors):
    directory = write_config(raw_config)
    wrong = {
        name: np.full_like(value, 7.0) for name, value in tensors.items() if "classifier" in name
    }
    for first, second in (("a", "b"), ("b", "a")):
        shards = {
            f"{first}.safetensors": tensors,
            f"{second}.safetensors": wrong
            | {"bert.pooler.dense.bias": tensors["bert.pooler.dense.bias"]},
        }
        weight_map = dict.fromkeys(tensors, f"{first}.safetensors") | {
            "bert.pooler.dense.bias": f"{second}.safetensors"
        }
        loaded = load_pretrained(write_index(directory, shards, weight_map), KEY)
        np.testing.assert_array_equal(
            loaded.params["head"]["classifier"]["bias"], tensors["classifier.bias"]
        )


def test_tensors_that_the_index_promises_in_vain_are_named(write_config, raw_config, tensors):
    directory = write_config(raw_config)
    weight_map = dict.fromkeys(tensors, "a.safetensors") | {"classifier.scale": "a.safetensors"}
    write_index(directory, {"a.safetensors": tensors}, weight_map)
    refused(
        load_pretrained,
        directory,
        KEY,
        match="a.safetensors lacks tensors that .*index.json names: classifier.scale",
    )


@pytest.mark.parametrize(
    "content", [{"a": {1: np.zeros(2)}}, {"params": 3}, {"x": "text"}, {"a": None}, {}]
)
def test_a_flax_file_of_other_things_ends_in_one_line(write_config, raw_config, content):
    directory = write_config(raw_config)
    (directory / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(content))
    refused(load_pretrained, directory, KEY, match="flax_model.msgpack")
