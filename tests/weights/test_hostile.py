"""A config.json that is malformed ends in one line that names the file and the field."""

import pathlib
from types import SimpleNamespace

import pytest

from adapler_jax.io.messages import MAX_MESSAGE, bounded, bounded_errors, listed, shown
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model
from tests.weights.hostile import KEY, refused

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
        "head_options .* expected an object with fields of pooling",
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
        ("ltp", {"final_threshold": True}, "final_threshold True, expected a number"),
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
