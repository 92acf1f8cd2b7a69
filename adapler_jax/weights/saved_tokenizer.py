"""Write a saved model's tokenizer files so that transformers tokenizes as this library does."""

import json
import shutil
from pathlib import Path
from typing import Any

from adapler_jax.weights.config import read_json
from adapler_jax.weights.hub import TOKENIZER_FILES

SETTINGS_FILE, TOKENIZER_FILE = "tokenizer_config.json", "tokenizer.json"
WORDS_FILE, NUMBERS_FILE = "vocab.txt", "vocab.json"
# The class of transformers that reads tokenizer.json as it is; others build some of it again from
# their own rules.
PLAIN_CLASS = "PreTrainedTokenizerFast"
# Of an object whose tokenizer.json holds their effect already, of the machine that wrote it, or
# that names code to run.
LEFT_OUT = (
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "do_basic_tokenize",
    "never_split",
    "add_prefix_space",
    "backend",
    "is_local",
    "local_files_only",
    "name_or_path",
    "tokenizer_file",
    "auto_map",
)
SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a tokenizer, or the vocabulary of one."""
    files = TOKENIZER_FILE, WORDS_FILE, NUMBERS_FILE
    return any((folder / name).is_file() for name in files)


def settle_tokenizer(
    folder: Path, *, max_length: int, has_segments: bool, is_copy: bool
) -> dict[str, int]:
    """Rewrite tokenizer_config.json in a folder that is being written.

    Args:
      folder: with the tokenizer's files; without them nothing is done.
      max_length: token slots of the model.
      has_segments: the model has different first and second segments.
      is_copy: the files are copies of a checkpoint's, whose class and case stay then.

    Returns:
      Numbers of special tokens for config.json, as {"pad_token_id": 0}.
    """
    if not has_tokenizer(folder):
        return {}
    settings = settings_of(folder)
    if not is_copy:
        settings = {name: value for name, value in settings.items() if name not in LEFT_OUT}
    settings.pop("auto_map", None)
    if (folder / TOKENIZER_FILE).is_file() and not (is_copy and settings.get("tokenizer_class")):
        settings["tokenizer_class"] = PLAIN_CLASS
    numbers = numbers_of_tokens(folder)
    for name, usual in SPECIAL.items():
        if not settings.get(name) and (there := [token for token in usual if token in numbers]):
            settings[name] = there[0]
    segments = ["token_type_ids"] if has_segments else []
    settings |= {
        "model_max_length": max_length,
        "model_input_names": ["input_ids", *segments, "attention_mask"],
        "padding_side": "right",
    }
    settings.setdefault("truncation_side", "right")
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    return special_numbers(settings, numbers)


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the contents of tokenizer_config.json, empty without the file."""
    path = folder / SETTINGS_FILE
    return read_json(path) if path.is_file() else {}


def numbers_of_tokens(folder: Path) -> dict[str, int]:
    """Return the numbers of possible special tokens; empty for a damaged file."""
    try:
        if (folder / TOKENIZER_FILE).is_file():
            found = read_json(folder / TOKENIZER_FILE).get("added_tokens")
            tokens = (
                [token for token in found if isinstance(token, dict)]
                if isinstance(found, list)
                else []
            )
            numbers = {str(token.get("content")): token.get("id") for token in tokens}
        elif (folder / WORDS_FILE).is_file():
            words = (folder / WORDS_FILE).read_text(encoding="utf-8").split("\n")
            numbers = {word: number for number, word in enumerate(words)}
        else:
            numbers = read_json(folder / NUMBERS_FILE)
    except ValueError:
        return {}
    return {token: number for token, number in numbers.items() if type(number) is int}


def special_numbers(settings: dict[str, Any], numbers: dict[str, int]) -> dict[str, int]:
    """Return the numbers of named special tokens for config.json."""
    names = {f"{name}_token_id": f"{name}_token" for name in ("pad", "bos", "eos", "cls", "sep")}
    if content_of(settings.get("cls_token")) == "<s>":
        names |= {"bos_token_id": "cls_token", "eos_token_id": "sep_token"}
    found = {key: numbers.get(content_of(settings.get(name))) for key, name in names.items()}
    return {key: number for key, number in found.items() if number is not None}


def content_of(token) -> str:
    """Return the text of a special token, which some files write as an object."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""


def tokenizer_is_copy(tokenizer) -> bool:
    """Return whether a tokenizer's files are copied; an object writes its own files."""
    return not hasattr(tokenizer, "save_pretrained")


def write_tokenizer(directory: Path, tokenizer) -> None:
    """Write or copy the files of a tokenizer; do nothing for None."""
    if tokenizer is not None and tokenizer_is_copy(tokenizer):
        copy_tokenizer(Path(tokenizer).expanduser(), directory)
    elif tokenizer is not None:
        try:
            tokenizer.save_pretrained(directory)
        except Exception as error:  # the tokenizers package has no exceptions of its own
            raise OSError(f"the tokenizer cannot be written: {error}") from error


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer files of a model directory.

    Raises:
      ValueError: there are no such files.
    """
    found = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not found:
        raise ValueError(
            f"{source} holds no tokenizer; expected some of {', '.join(TOKENIZER_FILES)}"
        )
    for path in found:
        shutil.copyfile(path, target / path.name)
