"""A vocabulary without a tokenizer.json is read as transformers reads it, and doubts are logged."""

import json
import unicodedata

import pytest

from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer, read_tokenizer
from tests.data.tokenization.folders import check_as_transformers, write_folder
from tests.data.vocabulary import SPECIAL, build_roberta_core


def test_roberta_is_read_from_its_vocabulary_and_merges(tmp_path):
    numbers = build_roberta_core().get_vocab()
    numbers |= {"Ġf": len(numbers), "fi": len(numbers) + 1, "Ġfi": len(numbers) + 2}
    files = {"vocab__json": numbers, "merges__txt": "#version: 0.2\nĠ f\nf i\nĠf i\n"}
    folder = write_folder(tmp_path, None, model_type="roberta", **files)
    check_as_transformers(folder, ("a film", " fi fi", "日 a", "a</s>b", "a <mask> fi"))
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
    folder = write_folder(tmp_path, None, vocab__txt=content, tokenizer_config__json=config)
    check_as_transformers(folder, ("the Films CAFÉ", "日b", "[SEP] the.", "café"))


def test_a_vocabulary_of_mpnet_has_two_tokens_between_texts(tmp_path):
    words = ("<s>", "<pad>", "</s>", "[UNK]", "the", "film", "##s", "<mask>")
    config = {"tokenizer_class": "MPNetTokenizer"}
    files = {"vocab__txt": "\n".join(words) + "\n", "tokenizer_config__json": config}
    folder = write_folder(tmp_path, None, model_type="mpnet", **files)
    check_as_transformers(folder, ("the Films", "a <mask> film", ""))
    found = load_core(folder).encode("the", "films")
    assert found.tokens == ["<s>", "the", "</s>", "</s>", "film", "##s", "</s>"]
    assert not any(found.type_ids)


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
    write_folder(tmp_path, None, **files)
    with pytest.raises(ValueError, match=said) as caught:
        load_tokenizer(tmp_path)
    assert (
        "\n" not in str(caught.value)
        and len(str(caught.value)) < 1000
        and str(tmp_path) in str(caught.value)
    )


def test_a_vocabulary_may_have_a_byte_order_mark_but_must_be_utf_8(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join((*SPECIAL, "the")).encode())
    assert load_core(tmp_path).encode("The").ids == [2, len(SPECIAL), 3]
    (tmp_path / "vocab.txt").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"vocab.txt is not text in UTF-8"):
        load_core(tmp_path)


def test_scripts_are_in_the_form_that_people_type():
    assert all(
        word == unicodedata.normalize("NFC", word) or word[0] > "\u0590"
        for words in SCRIPTS
        for word in words
    )
