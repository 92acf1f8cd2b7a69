"""Load the tokenizer that belongs to a checkpoint."""

import json
import os
import pathlib

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that PyTorch is missing is no news here

from transformers import BertTokenizerFast, PreTrainedTokenizerFast  # noqa: E402

_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
_SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}


def load_tokenizer(path_or_name: str) -> PreTrainedTokenizerFast:
    """Load a fast BERT tokenizer; truncation and padding that its file asks for are switched off.

    Args:
      path_or_name: a folder with tokenizer.json or vocab.txt, or a name on the hub.

    Returns:
      The tokenizer; `save_pretrained` writes it into a model directory.

    Raises:
      ValueError: there is no tokenizer, it is damaged, or it puts no [CLS] in front.
    """
    folder = pathlib.Path(path_or_name).expanduser()
    if not folder.is_dir():
        folder = _download(path_or_name)
    try:
        tokenizer = _load_folder(folder)
    except ValueError:
        raise
    except Exception as error:  # the Rust parser raises bare Exception
        raise ValueError(f"the tokenizer in {str(folder)!r} is damaged: {error}") from error
    first = tokenizer("a", truncation=False)["input_ids"][:1]
    if first != [tokenizer.cls_token_id]:
        raise ValueError(
            f"the tokenizer in {str(folder)!r} does not put {tokenizer.cls_token} in front of a text; pruning and "
            "classification need it: use the tokenizer of a BERT checkpoint"
        )
    return tokenizer


def _download(name: str) -> pathlib.Path:
    """Fetch the tokenizer files of a hub name into the hub's cache."""
    import huggingface_hub  # for names only

    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # one of a dozen classes, each meaning that the name gives no files here and now
        first_line = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ValueError(
            f"no folder {name!r} here, and the hub did not give it ({first_line}); give a folder with tokenizer.json "
            "or vocab.txt"
        ) from error


def _load_folder(folder: pathlib.Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer from tokenizer.json, or from a WordPiece vocabulary alone."""
    settings = _read_json(folder / "tokenizer_config.json")
    special = {name: _token(settings.get(name, token)) for name, token in _SPECIAL.items()}
    if (folder / "tokenizer.json").exists():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)
    elif (folder / "vocab.txt").exists():
        words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        cased = any(word != word.lower() for word in words if not word.startswith("["))
        tokenizer = BertTokenizerFast.from_pretrained(
            str(folder), **special, do_lower_case=settings.get("do_lower_case", not cased)
        )
    else:
        raise ValueError(f"folder {str(folder)!r} holds no tokenizer; expected tokenizer.json or vocab.txt")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _read_json(path: pathlib.Path) -> dict:
    """Read a JSON object; empty where there is no file."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _token(setting: str | dict) -> str:
    """Read a special token, which older files write as an object."""
    return setting["content"] if isinstance(setting, dict) else setting
