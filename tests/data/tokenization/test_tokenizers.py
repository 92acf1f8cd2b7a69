"""Small files next to a tokenizer have the effect of transformers, or raise one line."""

import json
import unicodedata
import warnings

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from adapler_jax.data.tokenization.tokenizers import (
    check_embedding_rows,
    load_core,
    load_tokenizer,
    max_token_id,
    read_tokenizer,
)
from tests.data.vocabulary import SPECIAL, build_core, build_roberta_core

WORDS = ("the", "film", "The", "É", "Film", "cafe", "café", "<e2>")
TEXTS = (
    "The É film [E1] was a café [MASK]",
    "the [e1]x",
    "[SEP] [E1]",
    "film[E1] the",
    "日本 Film",
    "É e\u0301",
    "a  <e2> b",
    "",
)
BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False}


def _folder(path, core, *, model_type="bert", **files):
    """Write tokenizer.json, config.json and other files, which are named with __ for the dot."""
    path.mkdir(exist_ok=True)
    if core is not None:
        core.save(str(path / "tokenizer.json"))
    for name, content in {"config__json": {"model_type": model_type}, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("__", ".")).write_bytes(text.encode())
    return path


def _ids(core, texts=TEXTS):
    return [row.ids for row in core.encode_batch(list(texts))]


def _check_as_transformers(folder, texts=TEXTS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = AutoTokenizer.from_pretrained(folder)(list(texts))["input_ids"]
    assert _ids(load_core(folder), texts) == expected
    assert load_tokenizer(folder)(list(texts))["input_ids"] == expected


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
    _check_as_transformers(_folder(tmp_path, core, **files))


def test_flags_of_a_listed_token_need_no_type(tmp_path):
    listed = [{"content": "[E1]", "lstrip": True}]
    config = BERT | {"additional_special_tokens": listed}
    core = load_core(_folder(tmp_path, build_core(WORDS), tokenizer_config__json=config))
    assert core.encode("the [e1]x").ids[2] == NEXT


@pytest.mark.parametrize("name", ["sep_token", "unk_token"])
@pytest.mark.parametrize("token", ["the", "[E9]"])
def test_contradicting_special_tokens_raise_with_their_names(tmp_path, name, token):
    folder = _folder(tmp_path, build_core(WORDS), tokenizer_config__json=BERT | {name: token})
    with pytest.raises(
        ValueError, match=f"tokenizer_config.json .*{name} is '.*tokenizer.json uses"
    ):
        load_core(folder)


def test_a_model_that_names_no_unknown_token_contradicts_none(tmp_path):
    core = build_core(WORDS)
    state = json.loads(core.to_str())
    state["model"] = {"type": "BPE", "vocab": core.get_vocab(), "merges": [], "unk_token": None}
    folder = _folder(
        tmp_path, None, tokenizer__json=state, tokenizer_config__json={"unk_token": "[UNK]"}
    )
    assert load_core(folder).token_to_id("[UNK]") == 1


def test_padding_and_truncation_of_a_tokenizer_json_change_no_check(tmp_path):
    core, settings = build_core(WORDS), BERT | {"sep_token": "[SEP]"}
    expected = _ids(load_core(_folder(tmp_path / "whole", core, tokenizer_config__json=settings)))
    core.enable_padding(length=128)
    core.enable_truncation(2)
    folder = _folder(tmp_path / "padded", core, tokenizer_config__json=settings)
    assert _ids(load_core(folder)) == expected


def test_a_silent_prefix_of_pieces_is_reported(tmp_path):
    core = build_core(WORDS)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    config = {"tokenizer_class": "XLMRobertaTokenizer", "cls_token": "[CLS]"}
    folder = _folder(tmp_path, core, tokenizer_config__json=config)
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
    folder = _folder(
        tmp_path, build_roberta_core(), model_type="roberta", tokenizer_config__json=config
    )
    _check_as_transformers(folder, ("a film", " a", "a <mask> b", "日"))


def test_roberta_is_read_from_its_vocabulary_and_merges(tmp_path):
    numbers = build_roberta_core().get_vocab()
    numbers |= {"Ġf": len(numbers), "fi": len(numbers) + 1, "Ġfi": len(numbers) + 2}
    files = {"vocab__json": numbers, "merges__txt": "#version: 0.2\nĠ f\nf i\nĠf i\n"}
    folder = _folder(tmp_path, None, model_type="roberta", **files)
    _check_as_transformers(folder, ("a film", " fi fi", "日 a", "a</s>b", "a <mask> fi"))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ f\nf i l\n")
    with pytest.raises(ValueError, match=r"merges.txt: line 3 is 'f i l'; expected two pieces"):
        load_core(tmp_path)
    (tmp_path / "merges.txt").write_text("x y\n")
    with pytest.raises(ValueError, match=r"merges.txt does not fit .*vocab.json"):
        load_core(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match=r"vocab.json has no token for cls_token, sep_token"):
        load_core(tmp_path)


@pytest.mark.parametrize(
    ("settings", "ending"),
    [({}, "\n"), ({"do_lower_case": False}, "\r\n"), ({"do_lower_case": True}, "\n")],
)
def test_a_vocabulary_alone_is_read_as_transformers_reads_it(tmp_path, settings, ending):
    words = (*SPECIAL, "the", "film", "café", "cafe", "b", "日", ".", "##s", "the")
    config = (
        {"tokenizer_class": "BertTokenizer", **settings} if settings else {"do_lower_case": True}
    )
    content = ending.join(words) + ending
    folder = _folder(tmp_path, None, vocab__txt=content, tokenizer_config__json=config)
    _check_as_transformers(folder, ("the Films CAFÉ", "日b", "[SEP] the.", "café"))


SCRIPTS = [
    "Über Straße Haus".split(),  # cased, with accents
    "über straße schön".split(),  # German, lower-cased, with accents
    "tôi không được".split(),
    "московский йод".split(),
    "Москва Йод".split(),
    "ελλάδα και".split(),
    "şarkı güzel ısı".split(),  # noqa: RUF001, Turkish
    "İstanbul Çok".split(),
    "हिन्दी में किताब".split(),
    "ภาษา ที่ ไทย".split(),
    "שָׁלוֹם טוֹב".split(),
    "서울 한국".split(),
    "がんばって です".split(),
    "كِتَاب آلة".split(),
    "東京 大学 映画".split(),
    "the café".split(),
]


@pytest.mark.parametrize("words", SCRIPTS)
def test_without_a_configuration_words_of_any_script_are_found(tmp_path, words):
    (tmp_path / "vocab.txt").write_text("\n".join((*SPECIAL, *words)), encoding="utf-8")
    core = load_core(tmp_path)
    assert core.encode(" ".join(words), add_special_tokens=False).tokens == [
        core.id_to_token(len(SPECIAL) + index) for index in range(len(words))
    ]
    assert (
        load_tokenizer(tmp_path)(" ".join(words))["input_ids"] == core.encode(" ".join(words)).ids
    )


def test_an_english_uncased_vocabulary_alone_takes_capitals_and_accents_off(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join((*SPECIAL, "the", "cafe")))
    assert load_core(tmp_path).encode("The CAFÉ", add_special_tokens=False).ids == [7, 8]
    assert read_tokenizer(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (
            ["URL", *(f"w{number}" for number in range(200))],
            None,
            "1 of 201 words have capital letters, as 'URL', and",
        ),
        (
            ["schön", "der"],
            None,
            "1 of 2 words have accents or marks, as 'schön', and texts keep theirs",
        ),
        (["schön", "der"], {"do_lower_case": True}, "as 'schön', and no text reaches them"),
        (
            ["Der"],
            {"do_lower_case": True},
            "have capital letters, as 'Der', and no text reaches them",
        ),
        (["東京"], None, "texts need blanks between words"),
        (["der", "der"], None, "has 1 words twice or empty; the last line of each counts"),
        (["der"], {"padding_side": "left"}, "padding_side is 'left'; here padding is right"),
        (
            ["der"],
            {"auto_map": {"AutoTokenizer": ["x.Y", None]}},
            "auto_map names a program of the checkpoint's own",
        ),
    ],
)
def test_a_doubt_about_a_vocabulary_is_logged(tmp_path, words, settings, said):
    (tmp_path / "vocab.txt").write_text("\n".join((*SPECIAL, *words)), encoding="utf-8")
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    notes = []
    load_tokenizer(tmp_path, log=notes.append)
    assert len(notes) == 1 and said in notes[0]


def test_differences_from_transformers_are_logged(tmp_path):
    core = build_core(WORDS)
    core.normalizer = normalizers.BertNormalizer(lowercase=False)
    _folder(tmp_path, core)
    loaded = read_tokenizer(tmp_path)
    assert loaded.core.token_to_id("The") in loaded.core.encode("The").ids
    assert [
        "does not say do_lower_case; tokenizer.json is followed" in note for note in loaded.notes
    ] == [True]
    _folder(
        tmp_path,
        core,
        tokenizer_config__json={"tokenizer_class": "TokenizersBackend", "do_lower_case": True},
    )
    assert "its tokenizer_class leaves that to tokenizer.json" in read_tokenizer(tmp_path).notes[0]


def test_the_truncation_side_of_a_tokenizer_json_is_kept(tmp_path):
    core = build_core(WORDS)
    core.enable_truncation(4, direction="left")
    _folder(tmp_path, core, tokenizer_config__json=BERT)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.truncation_side == "left" and tokenizer.backend_tokenizer.truncation is None


@pytest.mark.parametrize(
    "name", ["BertJapaneseTokenizer", "BertweetTokenizer", "PhobertTokenizer", "TapasTokenizer"]
)
@pytest.mark.parametrize("with_json", [True, False])
def test_a_tokenizer_class_that_is_a_program_raises_with_its_name(tmp_path, name, with_json):
    _folder(
        tmp_path,
        build_core() if with_json else None,
        vocab__txt="\n".join(SPECIAL),
        tokenizer_config__json={"tokenizer_class": name},
    )
    with pytest.raises(ValueError, match=f"tokenizer_class is '{name}'"):
        load_core(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    _folder(tmp_path, None, config__json={"model_type": "bert", "tokenizer_class": name})
    with pytest.raises(ValueError, match=f"config.json: tokenizer_class is '{name}'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"vocab__txt": "the 9\nfilm@@ 8\n"},
            r"no WordPiece vocabulary: 2 lines without \[UNK\], \[CLS\], \[SEP\]",
        ),
        ({"vocab__txt": ""}, "no WordPiece vocabulary: 0 lines"),
        (
            {
                "vocab__txt": "the\n",
                "tokenizer_config__json": {"tokenizer_class": "RobertaTokenizer"},
            },
            "'RobertaToken",
        ),
        (
            {"sentencepiece__bpe__model": "x"},
            "sentencepiece.bpe.model of the class 'that no file names' is not read",
        ),
        ({"spiece__model": "x", "vocab__json": "{}"}, "make a tokenizer.json"),
        (
            {"tokenizer_config__json": {"tokenizer_class": "CamembertTokenizer"}},
            "nothing of the class 'Camembert",
        ),
        (
            {"vocab__json": "[1]", "merges__txt": ""},
            "vocab.json holds list; expected a JSON object",
        ),
        ({"vocab__json": {"a": "b"}, "merges__txt": ""}, "vocab.json is no vocabulary"),
    ],
)
def test_errors_of_malformed_vocabularies_are_one_line(tmp_path, files, said):
    _folder(tmp_path, None, **files)
    with pytest.raises(ValueError, match=said) as caught:
        load_tokenizer(tmp_path)
    assert (
        "\n" not in str(caught.value)
        and len(str(caught.value)) < 1000
        and str(tmp_path) in str(caught.value)
    )


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
    _folder(tmp_path, build_core(), tokenizer_config__json=content)
    with pytest.raises(ValueError, match=r"tokenizer_config.json") as caught:
        load_core(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    ["[1]", {"[E1]": "x"}, {"[E1]": 3.5}, {"": 4}, {"[E1]": 10**20}, {"[E1]": 3}, b"\xff\xfe"],
)
def test_malformed_added_tokens_raise(tmp_path, content):
    _folder(tmp_path, build_core())
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


def test_a_vocabulary_may_have_a_byte_order_mark_but_must_be_utf_8(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join((*SPECIAL, "the")).encode())
    assert load_core(tmp_path).encode("The").ids == [2, len(SPECIAL), 3]
    (tmp_path / "vocab.txt").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"vocab.txt is not text in UTF-8"):
        load_core(tmp_path)


def test_a_normalizer_that_contradicts_the_configuration_raises(tmp_path):
    core = build_core(WORDS)
    core.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    folder = _folder(tmp_path, core, tokenizer_config__json={"do_lower_case": True})
    assert load_core(folder).encode("THE").ids == [2, core.token_to_id("the"), 3]
    _folder(tmp_path, core, tokenizer_config__json={"do_lower_case": False})
    with pytest.raises(
        ValueError, match=r"do_lower_case is False, but the normalizer of tokenizer.json does so"
    ):
        load_core(folder)


def test_a_bert_normalizer_in_a_sequence_is_checked_too(tmp_path):
    core = build_core(WORDS)
    core.normalizer = normalizers.Sequence([normalizers.BertNormalizer(lowercase=True)])
    _folder(tmp_path, core, tokenizer_config__json=BERT | {"do_lower_case": False})
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


def test_a_saved_tokenizer_keeps_its_settings(tmp_path):
    config = BERT | {
        "additional_special_tokens": ["<e2>"],
        "truncation_side": "left",
        "model_max_length": 40,
    }
    core = build_core(WORDS)
    core.add_special_tokens(list(SPECIAL[:5]))
    _folder(tmp_path / "a", core, tokenizer_config__json=config)
    tokenizer = load_tokenizer(tmp_path / "a", split_special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "b")
    _folder(tmp_path / "b", None)
    again = load_tokenizer(tmp_path / "b")
    assert (
        again.backend_tokenizer.encode_special_tokens
        and load_core(tmp_path / "b").encode_special_tokens
    )
    assert (again.truncation_side, again.model_max_length) == ("left", 40)
    assert _ids(load_core(tmp_path / "b")) == tokenizer(list(TEXTS))["input_ids"]
    assert (
        len(load_core(tmp_path / "a").encode("[SEP]").ids)
        == 3
        < len(load_core(tmp_path / "b").encode("[SEP]").ids)
    )
    _check_as_transformers(tmp_path / "b")


def test_scripts_are_in_the_form_that_people_type():
    assert all(
        word == unicodedata.normalize("NFC", word) or word[0] > "\u0590"
        for words in SCRIPTS
        for word in words
    )
