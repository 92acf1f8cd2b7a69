"""Build tokenizers from a vocabulary alone: WordPiece's vocab.txt, or vocab.json and merges.txt."""

import json
import pathlib
import re
import unicodedata
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from adapler_jax.data.tokenization.tokenizer_files import (
    CONFIG_FILE,
    Settings,
    read_object,
    read_text,
)
from adapler_jax.io.messages import excerpt, shown

BERT_SPECIAL = {
    f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")
}
ROBERTA_SPECIAL = {
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
MPNET_CLASS = "MPNetTokenizer"  # RoBERTa's special tokens and pairs around BERT's words
MPNET_SPECIAL = ROBERTA_SPECIAL | {"unk_token": "[UNK]"}
BERT_CLASSES = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Bert",
        "ConvBert",
        "DistilBert",
        "Electra",
        "Funnel",
        "LayoutLM",
        "Lxmert",
        "MobileBert",
        "MPNet",
        "RetriBert",
        "SqueezeBert",
    )
)
ROBERTA_CLASSES = frozenset(f"{name}Tokenizer" for name in ("Bart", "Longformer", "Roberta"))
# Classes that a tokenizer.json describes completely.
GENERIC_CLASSES = frozenset({"", "PreTrainedTokenizer", "TokenizersBackend"})
OPTIONS = {  # fields of tokenizer_config.json by option of BertNormalizer
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
FEW = 0.01  # fraction of words below which a guess from them is reported
_MAX_ID = 1 << 31
_BRACKETED = re.compile(r"\[.*\]|<.*>")  # the form of special tokens
_CHINESE = (("\u4e00", "\u9fff"), ("\u3400", "\u4dbf"), ("\U00020000", "\U0002ceaf"))
_HOW = (
    "make a tokenizer.json: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of "
    "transformers writes it where its class for the checkpoint has a fast form"
)

NormalizerOptions = dict[str, bool | None]  # arguments of BertNormalizer


def build_from_vocabulary(folder: pathlib.Path, settings: Settings) -> tuple[Tokenizer, list[str]]:
    """Build the tokenizer of a folder without tokenizer.json.

    Returns:
      The tokenizer, and a sentence for every doubt about it.

    Raises:
      ValueError: the folder holds no vocabulary, or not the kind that its class needs.
    """
    name = settings.tokenizer_class
    words = folder / "vocab.txt"
    if words.exists() and name in BERT_CLASSES | GENERIC_CLASSES:
        return _word_piece(words, settings)
    has_pairs = (folder / "vocab.json").exists() and (folder / "merges.txt").exists()
    if has_pairs and name in ROBERTA_CLASSES | {""}:
        return _byte_pairs(folder, settings), []
    found = [path.name for path in sorted(folder.glob("*.model"))]
    found += [file for file in ("vocab.txt", "bpe.codes", "vocab.json") if (folder / file).exists()]
    if found or name not in GENERIC_CLASSES:
        files = ", ".join(found)[:200] or "nothing"
        raise ValueError(
            f"folder {str(folder)!r} holds no tokenizer.json, and {files} of the class "
            f"{shown(name or 'that no file names')} is not read without: {_HOW}"
        )
    raise ValueError(
        f"folder {str(folder)!r} holds no tokenizer; expected tokenizer.json or vocab.txt"
    )


def special_of(
    settings: Settings, usual: Mapping[str, str], vocabulary: Container[str]
) -> dict[str, str]:
    """Return special tokens by name.

    Args:
      settings: their special tokens take precedence.
      usual: the tokens for names that the settings lack, if the vocabulary has them.
      vocabulary: the known tokens.
    """
    found = {}
    for name, default in usual.items():
        token = settings.special.get(name, default)
        if token and (name in settings.special or token in vocabulary):
            found[name] = token
    return found


def _word_piece(path: pathlib.Path, settings: Settings) -> tuple[Tokenizer, list[str]]:
    """Build BERT's tokenizer from a file with one word a line."""
    words = [line.rstrip() for line in read_text(path).split("\n")]
    while words and not words[-1]:
        words.pop()
    vocabulary = {word: number for number, word in enumerate(words)}
    is_mpnet = settings.tokenizer_class == MPNET_CLASS
    usual = MPNET_SPECIAL if is_mpnet else BERT_SPECIAL
    special = special_of(settings, usual, vocabulary)
    needed = ("unk_token", "cls_token", "sep_token")
    missing = [usual[name] for name in needed if special.get(name) not in vocabulary]
    if missing:
        raise ValueError(
            f"{path} is no WordPiece vocabulary: {len(words)} lines without {', '.join(missing)}; "
            f"give BERT's file of a word a line, or {_HOW}"
        )
    given: NormalizerOptions = {
        option: settings.fields[name] for option, name in OPTIONS.items() if name in settings.fields
    }
    options, notes = choose_normalizer(words, path, given)
    if len(vocabulary) < len(words):
        count = len(words) - len(vocabulary)
        notes.append(f"{path} has {count} words twice or empty; the last line of each counts")
    core = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    core.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(options["handle_chinese_chars"]),
        strip_accents=options["strip_accents"],
        lowercase=bool(options["lowercase"]),
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    first, last = special["cls_token"], special["sep_token"]
    between = [f"{last}:0"] * (2 if is_mpnet else 1)
    core.post_processor = processors.TemplateProcessing(
        single=[f"{first}:0", "$A:0", f"{last}:0"],
        pair=[f"{first}:0", "$A:0", *between, "$B:1", f"{last}:1"],
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return core, notes


class _WordKinds(NamedTuple):
    """The words of a vocabulary, and which of them need special treatment."""

    words: set[str]  # without ## and special tokens
    capitals: set[str]  # with a capital letter
    marked: set[str]  # with an accent or another combining character
    joined: set[str]  # of several Chinese characters

    @property
    def has_few_capitals(self) -> bool:
        """Return whether a small part of the words has capital letters."""
        return 0 < len(self.capitals) < FEW * len(self.words)

    @property
    def is_lowercase(self) -> bool:
        """Return whether texts should be lower-cased so that words are found."""
        has_capital_letter = any(len(word) == 1 for word in self.capitals)
        return not self.capitals or (self.has_few_capitals and not has_capital_letter)


def _word_kinds(lines: Sequence[str]) -> _WordKinds:
    """Sort the words of a vocabulary by the treatment that they need."""
    stems = {line.removeprefix("##") for line in lines if not _BRACKETED.fullmatch(line)}
    words = {word for word in stems if any(letter.isalpha() for letter in word)}
    return _WordKinds(
        words,
        capitals={word for word in words if word != word.lower()},
        marked={word for word in words if word != _without_marks(word)},
        joined={line for line in lines if len(line) > 1 and all(map(_is_chinese, line))},
    )


def choose_normalizer(
    words: Sequence[str], path: pathlib.Path, given: NormalizerOptions
) -> tuple[NormalizerOptions, list[str]]:
    """Choose how text is normalized, so that each word of a vocabulary can be found.

    Text is lower-cased if no word has a capital letter. Accents are removed from lower-cased text
    if no word has an accent, another mark, or a Korean syllable that would be decomposed. Chinese
    characters are separated if no word has several.

    Args:
      words: the lines of the vocabulary.
      path: names the vocabulary in notes.
      given: options from a file. If it sets the case, the other defaults are transformers'.

    Returns:
      Arguments of BertNormalizer, and a sentence for every doubt.
    """
    kinds = _word_kinds(words)
    options: NormalizerOptions = {
        "lowercase": kinds.is_lowercase,
        "strip_accents": kinds.is_lowercase and not kinds.marked,
        "handle_chinese_chars": not kinds.joined,
    }
    if "lowercase" in given:
        options |= {"strip_accents": None, "handle_chinese_chars": True}
    options |= given
    return options, _normalizer_doubts(kinds, options, given, path)


def _normalizer_doubts(
    kinds: _WordKinds, options: NormalizerOptions, given: NormalizerOptions, path: pathlib.Path
) -> list[str]:
    """Return a sentence for each kind of words that the options may not fit."""
    strips = options["lowercase"] if options["strip_accents"] is None else options["strip_accents"]
    unreached = "no text reaches them"
    capital, accented = "have capital letters", "have accents or marks"
    doubts: list[tuple[set[str], str, str, str]] = []
    if kinds.has_few_capitals and "lowercase" not in given:
        case = "texts are lower-cased" if kinds.is_lowercase else "texts are not lower-cased"
        doubts.append((kinds.capitals, "lowercase", capital, case))
    if given.get("lowercase"):
        doubts.append((kinds.capitals, "lowercase", capital, unreached))
    if options["lowercase"] and "strip_accents" not in given:
        result = unreached if strips else "texts keep theirs"
        doubts.append((kinds.marked, "strip_accents", accented, result))
    if "handle_chinese_chars" not in given:
        separated = options["handle_chinese_chars"]
        result = unreached if separated else "texts need blanks between words"
        several = "are several Chinese characters"
        doubts.append((kinds.joined, "handle_chinese_chars", several, result))
    return [
        f"{path}: {len(found)} of {len(kinds.words)} words {problem}, as {shown(min(found))}, and "
        f"{result}; {OPTIONS[option]} in {CONFIG_FILE} says otherwise"
        for found, option, problem, result in doubts
        if found
    ]


def _without_marks(word: str) -> str:
    """Return the word as BertNormalizer leaves it when it removes accents."""
    letters = unicodedata.normalize("NFD", word)
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")


def _is_chinese(letter: str) -> bool:
    """Return whether BERT puts blanks around a character."""
    return any(first <= letter <= last for first, last in _CHINESE)


def _byte_pairs(folder: pathlib.Path, settings: Settings) -> Tokenizer:
    """Build RoBERTa's tokenizer from vocab.json and merges.txt."""
    path, merges_path = folder / "vocab.json", folder / "merges.txt"
    vocabulary = _read_vocabulary(path)
    special = special_of(settings, ROBERTA_SPECIAL, vocabulary)
    needed = ("cls_token", "sep_token")
    missing = [name for name in needed if special.get(name) not in vocabulary]
    if missing:
        raise ValueError(
            f"{path} has no token for {', '.join(missing)}, {ROBERTA_SPECIAL[missing[0]]!r}; {_HOW}"
        )
    merges = _read_merges(merges_path)
    try:
        model = models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="")
        core = Tokenizer(model)
    except Exception as error:  # the Rust parser raises bare Exception
        raise ValueError(f"{merges_path} does not fit {path}: {excerpt(str(error))}") from error
    add_prefix_space = settings.fields.get("add_prefix_space", False)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    core.decoder = decoders.ByteLevel()
    first, last = ((special[name], vocabulary[special[name]]) for name in needed)
    core.post_processor = processors.RobertaProcessing(
        last, first, trim_offsets=True, add_prefix_space=add_prefix_space
    )
    return core


def _read_vocabulary(path: pathlib.Path) -> dict[str, int]:
    """Read token ids by token; raise ValueError if an id is wrong or given twice."""
    vocabulary = read_object(path)
    ids = vocabulary.values()
    if not all(isinstance(number, int) and 0 <= number < _MAX_ID for number in ids):
        raise ValueError(f"{path} is no vocabulary; expected an object of numbers by token")
    if len(set(ids)) < len(vocabulary):
        raise ValueError(
            f"{path} gives two tokens one id; expected an id of its own for each token"
        )
    return vocabulary


def _read_merges(path: pathlib.Path) -> list[tuple[str, str]]:
    """Read the pairs of pieces that byte-pair encoding merges, one a line."""
    merges = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        is_version = number == 1 and line.startswith("#version")
        if not line.strip() or is_version:
            continue
        pair = line.split()
        if len(pair) != 2:
            raise ValueError(f"{path}: line {number} is {shown(line)}; expected two pieces")
        merges.append((pair[0], pair[1]))
    return merges


def rewrite(core: Tokenizer, changes: Mapping[str, dict[str, Any]]) -> Tokenizer:
    """Return a tokenizer with other options of its parts.

    Args:
      core: the tokenizer.
      changes: options by the type of a part, which may be inside a sequence of parts.
    """
    state = json.loads(core.to_str())
    parts: list[Any] = [state["normalizer"], state["pre_tokenizer"], state["post_processor"]]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            part.update(changes.get(part.get("type", ""), {}))
            parts += [inner for inner in part.values() if isinstance(inner, dict | list)]
        elif isinstance(part, list):
            parts += part
    return Tokenizer.from_str(json.dumps(state))
