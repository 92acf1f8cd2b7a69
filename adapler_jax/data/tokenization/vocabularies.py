"""Tokenizers of checkpoints that hold a vocabulary alone: vocab.txt of WordPiece, or vocab.json and merges.txt."""

import json
import pathlib
import re
import unicodedata
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from adapler_jax.data.tokenization.tokenizer_files import Settings, read_object, read_text
from adapler_jax.io.messages import excerpt

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
GENERIC_CLASSES = frozenset(
    {"", "PreTrainedTokenizer", "TokenizersBackend"}
)  # that a tokenizer.json says all of
OPTIONS = {  # of BertNormalizer: what tokenizer_config.json calls them
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
FEW = 0.01  # share of words below which a guess by them is reported
_BRACKETED = re.compile(r"\[.*\]|<.*>")  # as special tokens are written
_HOW = (
    "make a tokenizer.json: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes it "
    "where its class for the checkpoint has a fast form"
)


def build_from_vocabulary(folder: pathlib.Path, settings: Settings) -> tuple[Tokenizer, list[str]]:
    """Build the tokenizer of a folder without tokenizer.json.

    Returns:
      The tokenizer, and a sentence for every doubt about it.

    Raises:
      ValueError: the folder holds no vocabulary, or one of another kind than it must be.
    """
    name = settings.tokenizer_class
    if (folder / "vocab.txt").exists() and name in BERT_CLASSES | GENERIC_CLASSES:
        return _word_piece(folder / "vocab.txt", settings)
    if (
        (folder / "vocab.json").exists()
        and (folder / "merges.txt").exists()
        and name in ROBERTA_CLASSES | {""}
    ):
        return _byte_pairs(folder, settings), []
    found = [path.name for path in sorted(folder.glob("*.model"))]
    found += [file for file in ("vocab.txt", "bpe.codes", "vocab.json") if (folder / file).exists()]
    if found or name not in GENERIC_CLASSES:
        raise ValueError(
            f"folder {str(folder)!r} holds no tokenizer.json, and {', '.join(found)[:200] or 'nothing'} of the class "
            f"{name or 'that no file names'!r:.60} is not read without: {_HOW}"
        )
    raise ValueError(
        f"folder {str(folder)!r} holds no tokenizer; expected tokenizer.json or vocab.txt"
    )


def special_of(settings: Settings, usual: dict[str, str], vocabulary) -> dict[str, str]:
    """Special tokens by name: as the files say, else the usual ones that the vocabulary has."""
    named = {name: settings.special.get(name, usual[name]) for name in usual}
    return {
        name: token
        for name, token in named.items()
        if token and (name in settings.special or token in vocabulary)
    }


def _word_piece(path: pathlib.Path, settings: Settings) -> tuple[Tokenizer, list[str]]:
    """A tokenizer as BERT's over the words of a file, a line each."""
    words = [line.rstrip() for line in read_text(path).split("\n")]
    while words and not words[-1]:
        words.pop()
    vocabulary = {word: number for number, word in enumerate(words)}
    special = special_of(settings, BERT_SPECIAL, vocabulary)
    missing = [
        BERT_SPECIAL[name]
        for name in ("unk_token", "cls_token", "sep_token")
        if special.get(name) not in vocabulary
    ]
    if missing:
        raise ValueError(
            f"{path} is no WordPiece vocabulary: {len(words)} lines without {', '.join(missing)}; give BERT's file of "
            f"a word a line, or {_HOW}"
        )
    given = {
        option: settings.fields[name] for option, name in OPTIONS.items() if name in settings.fields
    }
    options, notes = choose_normalizer(words, path, given)
    if len(vocabulary) < len(words):
        notes.append(
            f"{path} has {len(words) - len(vocabulary)} words twice or empty; the last line of each counts"
        )
    core = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    core.normalizer = normalizers.BertNormalizer(clean_text=True, **options)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    first, last = special["cls_token"], special["sep_token"]
    core.post_processor = processors.TemplateProcessing(
        single=[f"{first}:0", "$A:0", f"{last}:0"],
        pair=[f"{first}:0", "$A:0", f"{last}:0", "$B:1", f"{last}:1"],
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return core, notes


def choose_normalizer(
    words: Sequence[str], path: pathlib.Path, given: dict[str, bool | None]
) -> tuple[dict[str, bool | None], list[str]]:
    """Choose how text is changed before it is looked up, so that each word of a vocabulary can be found.

    Args:
      words: the lines of the vocabulary.
      path: names it in notes.
      given: options that a file says; where it says how case is treated, the others follow it as in transformers.

    Returns:
      Options of BertNormalizer, and a sentence for every doubt. Text is lower-cased where no word has a capital letter;
      accents are taken off where it is and no word has one, nor a mark or a Korean syllable that would be taken apart;
      Chinese characters stand alone where no word has several.
    """
    plain = {word.removeprefix("##") for word in words if not _BRACKETED.fullmatch(word)}
    plain = {word for word in plain if any(letter.isalpha() for letter in word)}
    capitals = {word for word in plain if word != word.lower()}
    marked = {word for word in plain if word != _without_marks(word)}
    joined = {
        word for word in words if len(word) > 1 and all(_is_chinese(letter) for letter in word)
    }
    has_few = 0 < len(capitals) < FEW * len(plain)
    lowercase = not capitals or (has_few and not any(len(word) == 1 for word in capitals))
    options = {
        "lowercase": lowercase,
        "strip_accents": lowercase and not marked,
        "handle_chinese_chars": not joined,
    }
    if "lowercase" in given:
        options |= {"strip_accents": None, "handle_chinese_chars": True}
    options |= given
    strips = options["lowercase"] if options["strip_accents"] is None else options["strip_accents"]
    capital, accented = "have capital letters", "have accents or marks"
    lowered = "texts are lower-cased" if lowercase else "texts are not lower-cased"
    unreached = "no text reaches them"
    kept = unreached if strips else "texts keep theirs"
    split = unreached if options["handle_chinese_chars"] else "texts need blanks between words"
    is_marked = marked and options["lowercase"] and "strip_accents" not in given
    is_joined = joined and "handle_chinese_chars" not in given
    doubts = [
        (has_few and "lowercase" not in given, capitals, "lowercase", capital, lowered),
        (capitals and given.get("lowercase"), capitals, "lowercase", capital, unreached),
        (is_marked, marked, "strip_accents", accented, kept),
        (is_joined, joined, "handle_chinese_chars", "are several Chinese characters", split),
    ]
    return options, [
        f"{path}: {len(found)} of {len(plain)} words {what}, as {min(found)!r:.60}, and {result}; {OPTIONS[option]} in "
        "tokenizer_config.json says otherwise"
        for is_doubt, found, option, what, result in doubts
        if is_doubt
    ]


def _without_marks(word: str) -> str:
    """The word as BertNormalizer leaves it where it takes accents off."""
    return "".join(
        letter
        for letter in unicodedata.normalize("NFD", word)
        if unicodedata.category(letter) != "Mn"
    )


def _is_chinese(letter: str) -> bool:
    """Whether BERT puts blanks around a character."""
    return (
        "\u4e00" <= letter <= "\u9fff"
        or "\u3400" <= letter <= "\u4dbf"
        or "\U00020000" <= letter <= "\U0002ceaf"
    )


def _byte_pairs(folder: pathlib.Path, settings: Settings) -> Tokenizer:
    """A tokenizer as RoBERTa's over vocab.json and merges.txt."""
    path, vocabulary = folder / "vocab.json", read_object(folder / "vocab.json")
    if not all(isinstance(number, int) and 0 <= number < 1 << 31 for number in vocabulary.values()):
        raise ValueError(f"{path} is no vocabulary; expected an object of numbers by token")
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError(
            f"{path} gives two tokens one number; expected a number of its own for each token"
        )
    special = special_of(settings, ROBERTA_SPECIAL, vocabulary)
    if missing := [
        name for name in ("cls_token", "sep_token") if special.get(name) not in vocabulary
    ]:
        raise ValueError(
            f"{path} has no token for {', '.join(missing)}, {ROBERTA_SPECIAL[missing[0]]!r}; {_HOW}"
        )
    merges = []
    for number, line in enumerate(read_text(folder / "merges.txt").split("\n"), start=1):
        if line.strip() and not (number == 1 and line.startswith("#version")):
            merges.append(tuple(line.split()))
            if len(merges[-1]) != 2:
                raise ValueError(
                    f"{folder / 'merges.txt'}: line {number} is {line!r:.60}; expected two pieces"
                )
    try:
        core = Tokenizer(
            models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="")
        )
    except Exception as error:  # the Rust parser raises bare Exception
        raise ValueError(
            f"{folder / 'merges.txt'} does not fit {path}: {excerpt(str(error))}"
        ) from error
    blank = settings.fields.get("add_prefix_space", False)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
    core.decoder = decoders.ByteLevel()
    ends = [(special[name], vocabulary[special[name]]) for name in ("sep_token", "cls_token")]
    core.post_processor = processors.RobertaProcessing(
        *ends, trim_offsets=True, add_prefix_space=blank
    )
    return core


def rewrite(core: Tokenizer, changes: dict[str, dict[str, object]]) -> Tokenizer:
    """Change options of a tokenizer's parts by the type of the part, wherever a sequence of parts holds it."""
    state = json.loads(core.to_str())
    parts = [state["normalizer"], state["pre_tokenizer"], state["post_processor"]]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            part.update(changes.get(part.get("type"), {}))
            parts += [inner for inner in part.values() if isinstance(inner, dict | list)]
        elif isinstance(part, list):
            parts += part
    return Tokenizer.from_str(json.dumps(state))
