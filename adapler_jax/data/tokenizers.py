"""Load the tokenizer that belongs to a checkpoint."""

import json
import os
import pathlib
import typing

from tokenizers import AddedToken, Tokenizer

from adapler_jax.data.segments import drop_segments
from adapler_jax.data.tables import first_line

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that PyTorch is missing is no news here

if typing.TYPE_CHECKING:  # a second to import, which answers do not wait for
    from transformers import PreTrainedTokenizerFast

_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
_SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
_ROBERTA_SPECIAL = {
    "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"
}  # fmt: skip


def load_tokenizer(path_or_name: str) -> "PreTrainedTokenizerFast":
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
    tokenizer = _parsed(_load_folder, folder)
    drop_segments(tokenizer.backend_tokenizer, folder)
    _check_first(tokenizer.backend_tokenizer, tokenizer.cls_token, folder)
    return tokenizer


def load_core(folder: str | os.PathLike) -> Tokenizer:
    """Load what `load_tokenizer` wraps, in hundredths of a second where there is a tokenizer.json: for inference.

    Args:
      folder: a folder with tokenizer.json or vocab.txt.

    Returns:
      The tokenizer, without truncation and padding; equal texts become equal tokens.

    Raises:
      ValueError: as `load_tokenizer`.
    """
    folder = pathlib.Path(folder)
    if not (folder / "tokenizer.json").exists():
        return load_tokenizer(str(folder)).backend_tokenizer
    special = _special_tokens(folder)
    core = _parsed(lambda folder: Tokenizer.from_file(str(folder / "tokenizer.json")), folder)
    known = {token.content for token in core.get_added_tokens_decoder().values()}
    core.add_tokens([AddedToken(token, special=True) for token in special.values() if token and token not in known])
    core.encode_special_tokens = False
    core.no_truncation()
    core.no_padding()
    drop_segments(core, folder)
    _check_first(core, special["cls_token"], folder)
    return core


def _parsed(load, folder: pathlib.Path):
    """Load from a folder; whatever a damaged file raises becomes a ValueError."""
    try:
        return load(folder)
    except ValueError:
        raise
    except Exception as error:  # the Rust parser raises bare Exception
        raise ValueError(f"the tokenizer in {str(folder)!r} is damaged: {error}") from error


def _check_first(core: Tokenizer, cls_token: str | None, folder: pathlib.Path) -> None:
    """Refuse a tokenizer that does not put [CLS] in front."""
    if core.encode("a").ids[:1] != [core.token_to_id(cls_token or "")]:
        raise ValueError(
            f"the tokenizer in {str(folder)!r} does not put {cls_token} in front of a text; pruning and "
            "classification need it: use the tokenizer of a BERT checkpoint"
        )


def _download(name: str) -> pathlib.Path:
    """Fetch the tokenizer files of a hub name into the hub's cache."""
    import huggingface_hub  # for names only

    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # one of a dozen classes, each meaning that the name gives no files here and now
        raise ValueError(
            f"no folder {name!r} here, and the hub did not give it ({first_line(error)}); give a folder with "
            "tokenizer.json or vocab.txt"
        ) from error


def _special_tokens(folder: pathlib.Path) -> dict[str, str]:
    """Names of the special tokens, as in {"cls_token": "[CLS]"}: as the folder's files have it, or the usual."""
    settings = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    usual = _SPECIAL if _SPECIAL.keys() <= settings.keys() else _usual_special(folder)
    return {name: _token(settings.get(name, token)) for name, token in usual.items()}


def _usual_special(folder: pathlib.Path) -> dict[str, str]:
    """RoBERTa's names where tokenizer.json has them all, else BERT's."""
    try:
        added = _read_json(folder / "tokenizer.json").get("added_tokens")
    except ValueError:  # which the parser tells
        added = None
    words = {token["content"] for token in added or ()}
    return _ROBERTA_SPECIAL if set(_ROBERTA_SPECIAL.values()) <= words else _SPECIAL


def _load_folder(folder: pathlib.Path) -> "PreTrainedTokenizerFast":
    """Build the tokenizer from tokenizer.json, or from a WordPiece vocabulary alone."""
    from transformers import BertTokenizerFast, PreTrainedTokenizerFast

    special = _special_tokens(folder)
    if (folder / "tokenizer.json").exists():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)
    elif (folder / "vocab.txt").exists():
        words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        cased = any(word != word.lower() for word in words if not word.startswith("["))
        tokenizer = BertTokenizerFast.from_pretrained(
            str(folder),
            **special,
            do_lower_case=_read_json(folder / "tokenizer_config.json").get("do_lower_case", not cased),
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
