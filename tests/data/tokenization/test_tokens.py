"""Tokenizers are read in every form; tokens are cached under a key of content and settings."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from adapler_jax.data.classification.examples import Examples
from adapler_jax.data.tokenization import tokens as tokens_module
from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer
from adapler_jax.data.tokenization.tokens import encode, tokenize

CLS, SEP, UNK = 2, 3, 1


def _examples(texts, pairs=None):
    ids = np.arange(len(texts), dtype=np.int32)
    return Examples(list(texts), pairs, (ids % 2).astype(np.int32), ids)


def test_texts_become_words_between_cls_and_sep(tokenizer):
    tokens, segments = encode(["A good film", "", "films"], None, tokenizer, max_length=8)
    assert [row.tolist() for row in (tokens[i] for i in range(3))] == [
        [CLS, 5, 6, 8, SEP],
        [CLS, SEP],
        [CLS, 8, 9, SEP],
    ]
    assert tokens.lengths.tolist() == [5, 2, 4] and tokens.values.dtype == np.int32
    assert segments.values.dtype == np.int8 and not segments.values.any()


def test_pairs_get_segment_ids_and_the_longer_text_is_cut_first(tokenizer):
    tokens, segments = encode(["a good good good", "bad"], ["film .", ""], tokenizer, max_length=8)
    assert tokens[0].tolist() == [CLS, 5, 6, 6, SEP, 8, 14, SEP]
    assert segments[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert tokens[1].tolist() == [CLS, 7, SEP, SEP] and segments[1].tolist() == [0, 0, 0, 1]


def test_other_scripts_and_strange_strings_are_tokens_too(tokenizer):
    texts = ["日本", "Привет", "\u200b\n\t ", "🎬", "e\u0301", "\x00"]
    tokens, _ = encode(texts, None, tokenizer, max_length=6)
    assert tokens[0].tolist() == [CLS, 11, 12, SEP] and tokens[1].tolist() == [CLS, 13, SEP]
    assert tokens[2].tolist() == [CLS, SEP] and tokens[3].tolist() == [CLS, UNK, SEP]
    assert all(tokens[row][0] == CLS and tokens[row][-1] == SEP for row in range(len(texts)))


def test_a_text_of_100_000_words_is_cut_to_the_maximum_length(tokenizer):
    tokens, _ = encode(["good " * 100_000, "bad"], None, tokenizer, max_length=16)
    assert tokens.lengths.tolist() == [16, 3] and tokens[0][-1] == SEP


def test_no_texts_give_no_rows(tokenizer):
    tokens, segments = encode([], None, tokenizer, max_length=16)
    assert len(tokens) == len(segments) == 0 and tokens.values.dtype == np.int32


def test_chunks_do_not_change_the_tokens(tokenizer, monkeypatch):
    texts = [("good " * count).strip() for count in range(10)]
    whole, _ = encode(texts, None, tokenizer, max_length=8)
    monkeypatch.setattr(tokens_module, "_CHUNK", 3)
    chunked, _ = encode(texts, None, tokenizer, max_length=8)
    np.testing.assert_array_equal(whole.values, chunked.values)
    np.testing.assert_array_equal(whole.offsets, chunked.offsets)


def test_too_small_a_maximum_length_raises(tokenizer):
    with pytest.raises(
        ValueError, match="max_length 3 leaves no room for text next to 3 special tokens"
    ):
        encode(["a"], ["b"], tokenizer, max_length=3)


def _count_calls(monkeypatch):
    calls = []
    original = tokens_module.encode
    monkeypatch.setattr(
        tokens_module, "encode", lambda *args, **more: calls.append(1) or original(*args, **more)
    )
    return calls


def test_the_second_call_reads_the_cache_with_its_own_labels(tokenizer, tmp_path, monkeypatch):
    calls = _count_calls(monkeypatch)
    examples = _examples(["a good film", "bad", ""])
    first = tokenize(examples, tokenizer, max_length=8, cache_dir=tmp_path / "new")
    second = tokenize(examples, tokenizer, max_length=8, cache_dir=tmp_path / "new")
    assert len(calls) == 1 and len(list((tmp_path / "new").glob("*.npz"))) == 1
    for name in ("tokens", "segments"):
        np.testing.assert_array_equal(getattr(first, name).values, getattr(second, name).values)
        assert getattr(first, name).values.dtype == getattr(second, name).values.dtype
    np.testing.assert_array_equal(second.labels, examples.labels)
    assert second.lengths.tolist() == [5, 3, 2] and len(second) == 3


def test_another_text_length_pair_or_tokenizer_is_another_key(tokenizer, tmp_path, monkeypatch):
    calls = _count_calls(monkeypatch)
    changed = json.loads(tokenizer.backend_tokenizer.to_str())
    changed["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    for examples, kind, length in (
        (_examples(["ab", "c"]), tokenizer, 8),
        (_examples(["a", "bc"]), tokenizer, 8),
        (_examples(["ab", "c"]), tokenizer, 9),
        (_examples(["ab", "c"], ["", ""]), tokenizer, 8),
        (_examples(["ab", "c"]), load_tokenizer(str(tmp_path)), 8),
    ):
        tokenize(examples, kind, max_length=length, cache_dir=tmp_path)
    assert len(calls) == len(list(tmp_path.glob("tokens-*.npz"))) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"x" * 200,
        lambda data: data[:60] + b"????" + data[64:],
        lambda data: data[:6] + bytes([data[6] ^ 1]) + data[7:],  # the flag of encryption
        lambda data: data[:8] + b"\x63" + data[9:],  # the way of compression
    ],
)
def test_a_damaged_cache_is_rebuilt(tokenizer, tmp_path, damage):
    examples = _examples(["a good film", "bad"])
    expected = tokenize(examples, tokenizer, max_length=8, cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(damage(path.read_bytes()))
    rebuilt = tokenize(examples, tokenizer, max_length=8, cache_dir=tmp_path)
    np.testing.assert_array_equal(rebuilt.tokens.values, expected.tokens.values)
    assert tokens_module._read_cache(path, 2) is not None
    assert tokens_module._read_cache(path, 3) is None


@pytest.mark.parametrize("offset", range(0, 900, 23))
def test_a_flipped_byte_anywhere_in_a_cache_is_never_read(tokenizer, tmp_path, offset):
    tokenize(_examples(["a good film", "bad"]), tokenizer, max_length=8, cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.npz")
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 1
    path.write_bytes(content)
    assert tokens_module._read_cache(path, 2) is None


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")]
)
def test_a_read_only_cache_warns_and_is_not_needed(tokenizer, tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(tokens_module, "replacing_file", refuse)
    with pytest.warns(
        UserWarning, match="tokens are not kept .*; name another folder, or none, in config.data"
    ):
        found = tokenize(_examples(["a"]), tokenizer, max_length=8, cache_dir=tmp_path)
    assert found.lengths.tolist() == [3]


def test_a_failed_write_leaves_no_file(tokenizer, tmp_path, monkeypatch):
    def full_disk(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens_module.np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        tokenize(_examples(["a"]), tokenizer, max_length=8, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_tokenizer_comes_back_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded("A good film", "日")["input_ids"] == tokenizer("A good film", "日")["input_ids"]
    assert (loaded.cls_token_id, loaded.sep_token_id, loaded.pad_token_id) == (CLS, SEP, 0)


def test_truncation_and_padding_of_the_file_are_disabled(tokenizer, tmp_path):
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=4)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens, _ = encode(["a good film .", "a"], None, load_tokenizer(str(tmp_path)), max_length=8)
    assert tokens.lengths.tolist() == [6, 3]
    assert [
        len(encoding.ids) for encoding in load_core(tmp_path).encode_batch(["a good film .", "a"])
    ] == [6, 3]


@pytest.mark.parametrize(
    ("settings", "words", "found"),
    [
        (None, ["a", "good"], [CLS, 6, SEP]),
        (None, ["a", "good", "Good"], [CLS, 7, SEP]),
        ({"do_lower_case": True}, ["a", "good", "Good"], [CLS, 6, SEP]),
        (
            {"do_lower_case": False, "cls_token": {"content": "[CLS]"}},
            ["a", "good", "Good"],
            [CLS, 7, SEP],
        ),
    ],
)
def test_a_vocabulary_alone_is_a_tokenizer_cased_if_its_words_are(tmp_path, settings, words, found):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n"
    )
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(tmp_path))("Good")["input_ids"] == found
    assert load_core(tmp_path).encode("Good").ids == found


STRANGE = [
    "[CLS] a [MASK] film [SEP]",
    "[PAD][UNK]",
    " ",
    "Привет 日本",
    "e\u0301\x00\u200b",
    "films. NOT",
    "[mask] [new]",
]


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"mask_token": None}, {"mask_token": {"content": "[new]"}}]
)
def test_the_core_gives_the_tokens_of_the_whole_tokenizer(tokenizer, tmp_path, added, settings):
    """Also where the file does not say that special tokens are special."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(content | ({} if added else {"added_tokens": []}))
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = [encoding.ids for encoding in load_core(tmp_path).encode_batch(STRANGE)]
    assert found == load_tokenizer(str(tmp_path))(STRANGE)["input_ids"]


@pytest.mark.parametrize("load_tokenizer", [load_tokenizer, load_core])
def test_errors_of_malformed_tokenizers_name_the_problem(tokenizer, tmp_path, load_tokenizer):
    with pytest.raises(
        ValueError, match=r"holds no tokenizer; expected tokenizer.json or vocab.txt"
    ):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"the tokenizer in .* is damaged"):
        load_tokenizer(str(tmp_path))
    content = json.loads(tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"does not put \[CLS\] before a text"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(ValueError, match=r"tokenizer_config.json is not JSON"):
        load_tokenizer(str(tmp_path))


def test_the_error_of_an_unknown_hub_name_has_the_reason(monkeypatch):
    import huggingface_hub

    def offline(name, **more):
        raise OSError("no route to the hub\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        ValueError,
        match=r"'bert-bass' is no local directory .*\(OSError: no route to the hub more\)",
    ):
        load_tokenizer("bert-bass")


@pytest.mark.parametrize("settings", ["nothing", "map"])
def test_robertas_tokens_are_found_without_a_tokenizer_config(tmp_path, settings):
    """Use the hub's form: tokenizer.json has the special tokens, the configuration names none."""
    first, last = ("<s>", "</s>") if settings == "nothing" else ("<go>", "<stop>")
    words = (first, "<pad>", last, "<unk>", "<mask>", "a", "film")
    vocab = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.RobertaProcessing((last, vocab[last]), (first, vocab[first]))
    core.add_special_tokens(list(words[:5]))
    core.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    if settings == "map":
        named = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), words))
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = load_tokenizer(str(tmp_path))
    assert (tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token_id) == (first, last, 1)
    assert (
        tokenizer("a film")["input_ids"] == load_core(tmp_path).encode("a film").ids == [0, 5, 6, 2]
    )
