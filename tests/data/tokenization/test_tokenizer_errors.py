"""Malformed files of a tokenizer, and files that contradict each other, raise one line."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from adapler_jax.data.tokenization.tokenizers import (
    check_embedding_rows,
    load_core,
    load_tokenizer,
    max_token_id,
)
from tests.data.tokenization.folders import BERT, WORDS, write_folder
from tests.data.vocabulary import SPECIAL, build_core


@pytest.mark.parametrize("name", ["sep_token", "unk_token"])
@pytest.mark.parametrize("token", ["the", "[E9]"])
def test_contradicting_special_tokens_raise_with_their_names(tmp_path, name, token):
    folder = write_folder(tmp_path, build_core(WORDS), tokenizer_config__json=BERT | {name: token})
    with pytest.raises(
        ValueError, match=f"tokenizer_config.json .*{name} is '.*tokenizer.json uses"
    ):
        load_core(folder)


def test_a_model_that_names_no_unknown_token_contradicts_none(tmp_path):
    core = build_core(WORDS)
    state = json.loads(core.to_str())
    state["model"] = {"type": "BPE", "vocab": core.get_vocab(), "merges": [], "unk_token": None}
    folder = write_folder(
        tmp_path, None, tokenizer__json=state, tokenizer_config__json={"unk_token": "[UNK]"}
    )
    assert load_core(folder).token_to_id("[UNK]") == 1


@pytest.mark.parametrize(
    "name", ["BertJapaneseTokenizer", "BertweetTokenizer", "PhobertTokenizer", "TapasTokenizer"]
)
@pytest.mark.parametrize("with_json", [True, False])
def test_a_tokenizer_class_that_is_a_program_raises_with_its_name(tmp_path, name, with_json):
    write_folder(
        tmp_path,
        build_core() if with_json else None,
        vocab__txt="\n".join(SPECIAL),
        tokenizer_config__json={"tokenizer_class": name},
    )
    with pytest.raises(ValueError, match=f"tokenizer_class is '{name}'"):
        load_core(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    write_folder(tmp_path, None, config__json={"model_type": "bert", "tokenizer_class": name})
    with pytest.raises(ValueError, match=f"config.json: tokenizer_class is '{name}'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"do_lower_case": 1},
        {"strip_accents": "no"},
        {"truncation_side": "both"},
        {"padding_side": 3},
        {"model_max_length": "512"},
        {"model_max_length": 2.5},
        {"tokenizer_class": "x y"},
        {"cls_token": "\ud800"},
        {"model_max_length": -5},
        {"model_max_length": True},
        {"tokenizer_class": ["x"]},
        {"cls_token": 3},
        {"mask_token": {"text": "x"}},
        {"cls_token": ""},
        {"additional_special_tokens": 5},
        {"additional_special_tokens": [{"content": "[E1]", "lstrip": 3}]},
        {"extra_special_tokens": [None]},
        {"added_tokens_decoder": []},
        {"added_tokens_decoder": {"x": {"content": "a"}}},
        {"added_tokens_decoder": {"5": "a"}},
        {"added_tokens_decoder": {"5": {"content": []}}},
        {"added_tokens_decoder": {"99999": {"content": "[E1]"}}},
        {"added_tokens_decoder": {"-1": {"content": "a"}}},
        "[]",
        "null",
        "{",
        '"text"',
        "[" * 100_000,
    ],
)
def test_a_setting_of_another_type_raises_one_line_with_the_file(tmp_path, content):
    write_folder(tmp_path, build_core(), tokenizer_config__json=content)
    with pytest.raises(ValueError, match=r"tokenizer_config.json") as caught:
        load_core(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    ["[1]", {"[E1]": "x"}, {"[E1]": 3.5}, {"": 4}, {"[E1]": 10**20}, {"[E1]": 3}, b"\xff\xfe"],
)
def test_malformed_added_tokens_raise(tmp_path, content):
    write_folder(tmp_path, build_core())
    written = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content))
    )
    (tmp_path / "added_tokens.json").write_bytes(
        written if isinstance(written, bytes) else written.encode()
    )
    with pytest.raises(ValueError, match=r"added_tokens.json"):
        load_core(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "{}",
        '{"model": 5}',
        '{"version": "1.0", "model": {"type": "WordPiece", "vocab": []}}',
        '{"version":"1.0","model":{"type":"Unigram","vocab":[["a",-1.0]],"unk_id":99}}',
        "[" * 5000,
        "\x00" * 50,
        '{"version":"1.0","added_tokens":[{"id":-1}],'
        '"model":{"type":"BPE","vocab":{},"merges":["a b"]}}',
        '{"version":"1.0","model":{"type":"WordLevel","vocab":{"[CLS]":0},"unk_token":"[UNK]"}}',
        '{"version":"1.0","pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated",'
        '"invert":false},"model":{"type":"BPE","vocab":{},"merges":[]}}',
    ],
)
def test_a_malformed_tokenizer_json_raises_one_line(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    for load in (load_core, load_tokenizer):
        with pytest.raises(ValueError, match="the tokenizer in ") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_a_normalizer_that_contradicts_the_configuration_raises(tmp_path):
    core = build_core(WORDS)
    core.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    folder = write_folder(tmp_path, core, tokenizer_config__json={"do_lower_case": True})
    assert load_core(folder).encode("THE").ids == [2, core.token_to_id("the"), 3]
    write_folder(tmp_path, core, tokenizer_config__json={"do_lower_case": False})
    with pytest.raises(
        ValueError, match=r"do_lower_case is False, but the normalizer of tokenizer.json does so"
    ):
        load_core(folder)


def test_a_bert_normalizer_in_a_sequence_is_checked_too(tmp_path):
    core = build_core(WORDS)
    core.normalizer = normalizers.Sequence([normalizers.BertNormalizer(lowercase=True)])
    write_folder(tmp_path, core, tokenizer_config__json=BERT | {"do_lower_case": False})
    with pytest.raises(ValueError, match="do_lower_case is False, but the normalizer"):
        load_core(tmp_path)


def test_the_highest_id_needs_a_row_of_the_table():
    core = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 9}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    check_embedding_rows(core, 10, "m")
    with pytest.raises(
        ValueError, match="gives 'a' the id 9 and has 2 tokens, but its embedding table has 9"
    ):
        check_embedding_rows(core, 9, "m")
    core.add_tokens([AddedToken("[E1]"), AddedToken("[E2]")])
    assert max_token_id(core) == max(core.token_to_id("[E2]"), 9)


def test_two_tokens_of_one_id_raise(tmp_path):
    state = json.loads(build_core().to_str())
    state["model"]["vocab"]["a"] = state["model"]["vocab"]["b"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="gives two tokens one id"):
        load_core(tmp_path)
