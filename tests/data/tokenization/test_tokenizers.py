"""Small files next to a tokenizer have the effect that transformers gives them."""

import pytest
from tokenizers import normalizers, pre_tokenizers

from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer, read_tokenizer
from tests.data.tokenization.folders import (
    BERT,
    TEXTS,
    WORDS,
    check_as_transformers,
    ids_of,
    write_folder,
)
from tests.data.vocabulary import SPECIAL, build_core, build_roberta_core

NEXT = len(build_core(WORDS).get_vocab())


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config__json": BERT},
        {"tokenizer_config__json": BERT | {"do_lower_case": False}},
        {"tokenizer_config__json": BERT | {"strip_accents": True}},
        {"tokenizer_config__json": BERT | {"strip_accents": None}},
        {"tokenizer_config__json": BERT | {"tokenize_chinese_chars": False}},
        {
            "tokenizer_config__json": BERT
            | {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}
        },
        {"tokenizer_config__json": {"do_lower_case": False, "strip_accents": True}},
        {
            "tokenizer_config__json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "do_lower_case": False,
            }
        },
        {"tokenizer_config__json": BERT | {"additional_special_tokens": ["[E1]"]}},
        {"tokenizer_config__json": BERT | {"additional_special_tokens": ["<e2>", "film"]}},
        {"tokenizer_config__json": BERT | {"extra_special_tokens": {"entity_token": "[E1]"}}},
        {"tokenizer_config__json": BERT | {"split_special_tokens": True}},
        {"tokenizer_config__json": BERT, "added_tokens__json": {"[E1]": NEXT}},
        {
            "tokenizer_config__json": BERT | {"do_lower_case": False},
            "added_tokens__json": {"[E1]": NEXT},
        },
        {
            "tokenizer_config__json": BERT | {"additional_special_tokens": ["[E1]"]},
            "added_tokens__json": {"[E2]": NEXT + 1, "[E1]": NEXT},
        },
        {
            "tokenizer_config__json": BERT
            | {
                "added_tokens_decoder": {
                    str(NEXT): {"content": "[E1]", "lstrip": True, "special": True}
                }
            }
        },
        {
            "tokenizer_config__json": BERT
            | {
                "added_tokens_decoder": {
                    str(NEXT): {"content": "[E1]", "single_word": True, "normalized": False}
                }
            }
        },
        {
            "tokenizer_config__json": BERT,
            "added_tokens__json": {"[E1]": NEXT},
            "special_tokens_map__json": {"additional_special_tokens": ["[E1]"]},
        },
        {
            "tokenizer_config__json": BERT
            | {
                "additional_special_tokens": [
                    {"content": "[E1]", "lstrip": True, "__type": "AddedToken"}
                ]
            }
        },
        {
            "tokenizer_config__json": BERT | {"added_tokens_decoder": {}},
            "special_tokens_map__json": {"additional_special_tokens": ["[E1]"]},
        },
        {
            "tokenizer_config__json": BERT,
            "special_tokens_map__json": {
                "additional_special_tokens": ["[E1]"],
                "mask_token": "[MASK]",
            },
        },
    ],
)
def test_files_next_to_a_tokenizer_json_have_the_effect_of_transformers(tmp_path, files):
    core = build_core(WORDS)
    core.add_special_tokens(list(SPECIAL[:5]))
    check_as_transformers(write_folder(tmp_path, core, **files))


def test_flags_of_a_listed_token_need_no_type(tmp_path):
    listed = [{"content": "[E1]", "lstrip": True}]
    config = BERT | {"additional_special_tokens": listed}
    core = load_core(write_folder(tmp_path, build_core(WORDS), tokenizer_config__json=config))
    assert core.encode("the [e1]x").ids[2] == NEXT


def test_padding_and_truncation_of_a_tokenizer_json_change_no_check(tmp_path):
    core, settings = build_core(WORDS), BERT | {"sep_token": "[SEP]"}
    expected = ids_of(
        load_core(write_folder(tmp_path / "whole", core, tokenizer_config__json=settings))
    )
    core.enable_padding(length=128)
    core.enable_truncation(2)
    folder = write_folder(tmp_path / "padded", core, tokenizer_config__json=settings)
    assert ids_of(load_core(folder)) == expected


def test_a_silent_prefix_of_pieces_is_reported(tmp_path):
    core = build_core(WORDS)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    config = {"tokenizer_class": "XLMRobertaTokenizer", "cls_token": "[CLS]"}
    folder = write_folder(tmp_path, core, tokenizer_config__json=config)
    (note,) = read_tokenizer(folder).notes
    assert "does not say add_prefix_space; tokenizer.json is followed" in note


@pytest.mark.parametrize("add_prefix_space", [False, True, None])
@pytest.mark.parametrize("name", ["RobertaTokenizer", "PreTrainedTokenizerFast", None])
def test_a_blank_before_the_first_word_is_added_as_transformers_adds_it(
    tmp_path, name, add_prefix_space
):
    config = {"tokenizer_class": name} if name else {}
    if add_prefix_space is not None:
        config["add_prefix_space"] = add_prefix_space
    folder = write_folder(
        tmp_path, build_roberta_core(), model_type="roberta", tokenizer_config__json=config
    )
    check_as_transformers(folder, ("a film", " a", "a <mask> b", "日"))


def test_differences_from_transformers_are_logged(tmp_path):
    core = build_core(WORDS)
    core.normalizer = normalizers.BertNormalizer(lowercase=False)
    write_folder(tmp_path, core)
    loaded = read_tokenizer(tmp_path)
    assert loaded.core.token_to_id("The") in loaded.core.encode("The").ids
    assert [
        "does not say do_lower_case; tokenizer.json is followed" in note for note in loaded.notes
    ] == [True]
    write_folder(
        tmp_path,
        core,
        tokenizer_config__json={"tokenizer_class": "TokenizersBackend", "do_lower_case": True},
    )
    assert "its tokenizer_class leaves that to tokenizer.json" in read_tokenizer(tmp_path).notes[0]


def test_the_truncation_side_of_a_tokenizer_json_is_kept(tmp_path):
    core = build_core(WORDS)
    core.enable_truncation(4, direction="left")
    write_folder(tmp_path, core, tokenizer_config__json=BERT)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.truncation_side == "left" and tokenizer.backend_tokenizer.truncation is None


def test_a_saved_tokenizer_keeps_its_settings(tmp_path):
    config = BERT | {
        "additional_special_tokens": ["<e2>"],
        "truncation_side": "left",
        "model_max_length": 40,
    }
    core = build_core(WORDS)
    core.add_special_tokens(list(SPECIAL[:5]))
    write_folder(tmp_path / "a", core, tokenizer_config__json=config)
    tokenizer = load_tokenizer(tmp_path / "a", split_special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "b")
    write_folder(tmp_path / "b", None)
    again = load_tokenizer(tmp_path / "b")
    assert (
        again.backend_tokenizer.encode_special_tokens
        and load_core(tmp_path / "b").encode_special_tokens
    )
    assert (again.truncation_side, again.model_max_length) == ("left", 40)
    assert ids_of(load_core(tmp_path / "b")) == tokenizer(list(TEXTS))["input_ids"]
    assert (
        len(load_core(tmp_path / "a").encode("[SEP]").ids)
        == 3
        < len(load_core(tmp_path / "b").encode("[SEP]").ids)
    )
    check_as_transformers(tmp_path / "b")
