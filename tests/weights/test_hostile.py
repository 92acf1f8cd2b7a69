"""A folder that is no model ends in one line that names the file; no other file is read."""

import json
import pathlib
from types import SimpleNamespace

import flax.serialization
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from adapler_jax.io.messages import MAX_MESSAGE, bounded, bounded_errors, listed, shown
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model

KEY = jax.random.key(0)


def refused(load, *args, match, **options):
    """Assert that a call ends in a ValueError of one line."""
    with pytest.raises(ValueError, match=match) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert len(message) <= MAX_MESSAGE and message.isprintable()


@pytest.fixture
def saved(tmp_path, write_checkpoint, tensors):
    """A saved model of ours, and a function that changes its config.json."""
    loaded = load_pretrained(write_checkpoint(tensors), KEY)
    directory = save_model(
        tmp_path / "model", loaded.params | {"pruner": {}}, loaded.config, max_length=8
    )
    raw = json.loads((directory / "config.json").read_text())

    def change(section=None, **changes):
        contents = raw | changes
        contents["adapler_jax"] = raw["adapler_jax"] | (section or {})
        (directory / "config.json").write_text(json.dumps(contents))
        return directory

    return change


BAD_SECTIONS = {
    "options a list": ({"pruner_options": [1]}, r"pruner_options \[1\], expected an object"),
    "options of objects": ({"pruner_options": {"a": {}}}, "pruner_options"),
    "options of deep lists": ({"pruner_options": {"layers": [[1]]}}, "pruner_options"),
    "layers no list": (
        {"pruner_options": {"layers": 3}},
        "layers 3, expected increasing numbers from 1 to 3",
    ),
    "layers beyond": ({"pruner_options": {"layers": [1, 4]}}, "layers"),
    "head a list": ({"head": ["span"]}, r"unknown head \['span'\], there are classification"),
    "head unknown": ({"head": "tail"}, "unknown head 'tail'"),
    "options of a head without": (
        {"head_options": {"a": 1}},
        "head_options .* expected an object with fields of nothing",
    ),
    "options of a head a list": ({"head": "choice", "head_options": []}, "head_options"),
    "option of a head missing": (
        {"head": "choice", "head_options": {}},
        "head_options without num_options",
    ),
    "option of a head a text": (
        {"head": "choice", "head_options": {"num_options": "4"}},
        "num_options '4'",
    ),
    "option no truth value": (
        {"head": "candidates", "head_options": {"num_candidates": 4, "protects": 1}},
        "protects 1",
    ),
    "length negative": (
        {"max_length": -5},
        "max_length -5, expected null or a number from 1 to 65536",
    ),
    "length a fraction": ({"max_length": 12.5}, "max_length 12.5"),
    "length a text": ({"max_length": "16"}, "max_length '16'"),
    "length huge": ({"max_length": 10**9}, "max_length 1000000000"),
    "length beyond the positions": (
        {"max_length": 13},
        "max_length is 13, the model has 12 positions",
    ),
    "length a truth value": ({"max_length": True}, "max_length True"),
    "task a list": ({"task": ["sst2"]}, r"task \['sst2'\], expected null or a text"),
    "extra a list": ({"extra": []}, r"extra \[\], expected an object"),
    "extra not finite": ({"extra": {"a": [{"b": float("nan")}]}}, "extra"),
    "threshold a text": ({"extra": {"no_answer_threshold": "x"}}, "no_answer_threshold 'x'"),
    "reading a list": ({"extra": {"qa": [1]}}, r"qa \[1\], expected an object"),
    "doc_stride a text": ({"extra": {"qa": {"doc_stride": "x"}}}, "qa.doc_stride 'x'"),
    "score_options_independently a number": (
        {"extra": {"qa": {"score_options_independently": 1}}},
        "qa.score_options_independently 1",
    ),
    "pruner a list": ({"pruner": ["keep_all"]}, r"pruner \['keep_all'\]"),
    "pruner unknown": ({"pruner": "magic"}, "unknown pruner 'magic'"),
    "format a list": ({"format": [1]}, r"format \[1\]"),
}


@pytest.mark.parametrize("name", BAD_SECTIONS)
def test_our_section_is_checked(saved, name):
    section, message = BAD_SECTIONS[name]
    refused(load_model, saved(section), match=message)


@pytest.mark.parametrize(
    ("pruner", "options", "message"),
    [
        *(
            ("adapler", {"predictor_dim": value}, "predictor_dim .*, expected a number from 1 to")
            for value in (-1, 0, "8", [8], True, 32.0, 1e308, 10**9)
        ),
        ("trbert", {"selector_dim": None}, "selector_dim None, expected a number from 1 to"),
        ("adapler", {"clip_cls_ratio": "x"}, "clip_cls_ratio 'x', expected true or false"),
        ("powerbert", {"counts_padding": 1}, "counts_padding 1, expected true or false"),
        ("adapler", {"initial_threshold": "a"}, "initial_threshold 'a', expected a number"),
    ],
)
def test_options_of_a_pruner_are_checked_and_the_file_is_named(saved, pruner, options, message):
    directory = saved({"pruner": pruner, "pruner_options": options})
    refused(load_model, directory, match=f"config.json: .*pruner_options with {message}")


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_format_is_a_whole_number(saved, value):
    refused(load_model, saved({"format": value}), match="config.json has format .*this release")


BAD_CONFIGS = {
    "a billion layers": (
        {"num_hidden_layers": 10**9},
        "it has 1000000000 layers, there are tensors of 4",
    ),
    "a layer too many": ({"num_hidden_layers": 5}, "it has 5 layers, there are tensors of 4"),
    "a huge number": (
        {"vocab_size": 10**4000},
        "vocab_size is a number of .* bits, expected a positive integer",
    ),
    "a number as text": ({"hidden_size": "16"}, "hidden_size is '16'"),
    "an infinite number": ({"layer_norm_eps": 1e400}, "layer_norm_eps is inf"),
    "an object for a size": ({"hidden_size": {"a": 1}}, "hidden_size is {'a': 1}"),
    "names twice": (
        {"id2label": {"0": "a", "1": "a", "2": "b"}},
        "id2label has the name 'a' twice",
    ),
    "names of null": (
        {"id2label": {"0": None, "1": "a", "2": "b"}},
        "id2label names class 0 None; expected a text",
    ),
    "names of lists": ({"id2label": {"0": ["x"], "1": "a", "2": "b"}}, "id2label names class 0"),
    "half a character": (
        {"id2label": {"0": "\ud800", "1": "a", "2": "b"}},
        "id2label names class 0",
    ),
    "names a list": ({"id2label": ["a", "b", "c"]}, "id2label is"),
    "quantised": (
        {"quantization_config": {"quant_method": "gptq"}},
        "quantization_config is there .'gptq'.*",
    ),
    "many lines": ({"model_type": "a\nb" * 999}, "model_type is 'a"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_config_json_is_checked(saved, name):
    changes, message = BAD_CONFIGS[name]
    directory = saved(**changes)
    refused(load_model, directory, match=f"(?s){message}")
    refused(load_pretrained, directory, KEY, match=f"(?s){message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "holds a JSON list, expected an object"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"a":' + "[" * 40 + "]" * 40 + "}", "nested too deeply; expected at most 32 levels"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "not valid JSON"),
        ("{" + "\n" * 50 + "x", "not valid JSON"),
    ],
)
def test_json_of_any_form_ends_in_one_line(saved, text, message):
    directory = saved()
    (directory / "config.json").write_text(text)
    for load in (load_model, lambda folder: load_pretrained(folder, KEY)):
        refused(load, directory, match=f"config.json.*{message}")


def test_a_folder_for_a_file_is_named(saved):
    directory = saved()
    (directory / "config.json").unlink()
    (directory / "config.json").mkdir()
    refused(load_model, directory, match="config.json is not valid JSON: it is no file")


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


WRAPPED = {
    "ddp": "module.{}",
    "compiled": "_orig_mod.{}",
    "lightning": "model.{}",
    "both": "_orig_mod.module.{}",
    "fsdp": "_fsdp_wrapped_module.{}",
    "peft": "base_model.model.{}",
    "compiled lightning": "model._orig_mod.{}",
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "bare"])
def test_prefixes_of_wrappers_are_stripped_for_every_family(
    write_checkpoint, raw_config, tensors, wrapper, family
):
    raw, names = in_family(raw_config, tensors, family)
    expected = load_pretrained(write_checkpoint(names, raw, name="plain"), KEY)
    wrapped = {WRAPPED[wrapper].format(name): value for name, value in names.items()}
    found = load_pretrained(write_checkpoint(wrapped, raw, name="wrapped"), KEY)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert found.notes == expected.notes


def in_family(raw, tensors, family):
    """A config.json and the tensors of the tiny checkpoint under a family's names."""
    if family == "bert":
        return raw, tensors
    if family == "bare":
        return raw, {
            name.removeprefix("bert."): value
            for name, value in tensors.items()
            if "classifier" not in name
        }
    if family == "roberta":
        table = "roberta.embeddings.position_embeddings.weight"
        names = {name.replace("bert.", "roberta."): value for name, value in tensors.items()}
        names[table] = np.concatenate([names[table][:2], names[table]])
        return raw | {
            "model_type": "roberta",
            "pad_token_id": 1,
            "max_position_embeddings": 14,
        }, names
    keys = {"n_layers": 4, "n_heads": 2, "dim": 16, "hidden_dim": 24, "activation": "gelu"}
    parts = {
        "bert.encoder.layer.": "distilbert.transformer.layer.",
        "bert.embeddings.": "distilbert.embeddings.",
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
        "bert.pooler.dense": "pre_classifier",
    }
    names = {}
    for name, value in tensors.items():
        renamed = name
        for part, other in parts.items():
            renamed = renamed.replace(part, other)
        names[renamed] = value
    del names["distilbert.embeddings.token_type_embeddings.weight"]
    return {
        "model_type": "distilbert",
        "vocab_size": 50,
        "max_position_embeddings": 12,
        **keys,
    }, names


def test_wrappers_inside_a_name_are_stripped(write_checkpoint, tensors):
    inside = {
        name.replace(".layer.", "._fsdp_wrapped_module.layer."): value
        for name, value in tensors.items()
    }
    inside = {
        name.replace(".output.dense", ".output._checkpoint_wrapped_module.dense"): x
        for name, x in inside.items()
    }
    expected = load_pretrained(write_checkpoint(tensors), KEY)
    found = load_pretrained(write_checkpoint(inside, name="inside"), KEY)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


def test_foreign_tensors_are_ignored_with_a_note(write_checkpoint, tensors):
    foreign = {
        name: np.zeros(2, np.float32)
        for name in ("loss_fct.weight", "ema.decay", "crf.transitions", "teacher.a")
    }
    foreign |= {f"teacher.{name}": value for name, value in tensors.items()}
    loaded = load_pretrained(write_checkpoint(tensors | foreign), KEY)
    assert loaded.notes == (
        f"ignored: crf.*, ema.*, loss_fct.*, teacher.* ({len(tensors) + 1} tensors)",
    )


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "net.bert_model.", "roberta."])
def test_a_prefix_that_would_match_is_named(write_checkpoint, tensors, prefix):
    renamed = {name.replace("bert.", prefix): value for name, value in tensors.items()}
    refused(
        load_pretrained,
        write_checkpoint(renamed),
        KEY,
        match=f"have the prefix '{prefix}', without which they would",
    )
    half = {
        name.replace("bert.encoder.", f"{prefix}encoder."): value for name, value in tensors.items()
    }
    refused(load_pretrained, write_checkpoint(half), KEY, match=f"have the prefix '{prefix}'")


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


def test_messages_are_one_printable_line_of_bounded_length():
    assert shown("a\nb\x1b" * 99, 20).isprintable() and len(shown("a" * 99, 20)) == 20
    assert bounded("a\n\tb\x1b[31m") == "a b [31m"
    long = bounded("x" * 5000 + "the advice")
    assert len(long) == MAX_MESSAGE and long.endswith("the advice")
    assert listed(["a", "b", "c"], limit=4) == "a, b, and 1 more"
    with pytest.raises(OSError, match=r"^.Errno 2. a b") as caught, bounded_errors():
        raise FileNotFoundError(2, "a\nb")
    assert caught.value.errno == 2 and isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("pruner", "options", "message"),
    [
        (
            "adapler",
            {"magic": 1},
            "pruner 'adapler' has no options magic; there are predictor_dim, initial_threshold",
        ),
        ("keep_all", {"layers": [1]}, "pruner 'keep_all' has no options layers; there are none"),
        ("powerbert", {"config": 1}, "has no options config"),
    ],
)
def test_options_that_a_pruner_lacks_are_named(pruner, options, message):
    config = EncoderConfig(4, 2, 16, 24, 50, 12)
    names = {"pruner_name": pruner, "pruner_options": options, "directory": pathlib.Path("model")}
    saved = SimpleNamespace(config=config, **names)
    refused(pruner_of_saved, saved, match=f"model/config.json: .*{message}")
