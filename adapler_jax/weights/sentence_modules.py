"""Read and write the modules of a sentence-transformers folder: pooling, a dense layer, norm.

Source: the names are sentence-transformers', releases 2 to 6: modules.json lists the modules, each
with a folder of its own.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.heads import Head, embedding
from adapler_jax.heads.embedding import CLS, IDENTITY, MEAN, POOLINGS, TANH
from adapler_jax.io.messages import shown
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.checkpoint_formats import WEIGHTS_FILE
from adapler_jax.weights.config import read_json
from adapler_jax.weights.files import read_safetensors, read_torch

MODULES_FILE = "modules.json"
PROMPTS_FILE = "config_sentence_transformers.json"
PROMPTS, DEFAULT_PROMPT = "prompts", "default_prompt_name"  # in this file, and in `Saved.extra`
SIMILARITY, COSINE, DOT = "similarity_fn_name", "cosine", "dot"
SIMILARITIES = (COSINE, DOT)
SETTINGS = (PROMPTS, DEFAULT_PROMPT, SIMILARITY)  # of a model, in `Saved.extra`
LENGTH_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "xlm-roberta")
)
TYPE = re.compile(r"sentence_transformers\.[\w.]*\b(Transformer|Pooling|Dense|Normalize)")
ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
# The flags of older releases, and the values of newer ones.
POOLING_FLAGS = {
    "pooling_mode_cls_token": CLS,
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
TORCH_ACTIVATIONS = {
    IDENTITY: "torch.nn.modules.linear.Identity",
    TANH: "torch.nn.modules.activation.Tanh",
}
TORCH_ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.\w+\.)?(Identity|Tanh)")
SENTENCE_NAME = "sentence_embedding"  # of the vector that a module passes on
DENSE_NAMES = {"linear.weight": "sentence_dense.weight", "linear.bias": "sentence_dense.bias"}
READERS = {WEIGHTS_FILE: read_safetensors, "pytorch_model.bin": read_torch}


class SentenceModules(NamedTuple):
    """The modules after the encoder, and the settings of its tokenizer."""

    head: Head
    max_length: int | None  # token slots; None where the folder does not say
    dense: Path | None  # folder of the dense layer
    extra: dict[str, Any]  # PROMPTS, DEFAULT_PROMPT and SIMILARITY, where there are any


def is_sentence_folder(directory: Path) -> bool:
    """Return whether a folder's modules.json has a pooling, as models of vectors have.

    Raises:
      ValueError: modules.json is damaged.
    """
    path = Path(directory) / MODULES_FILE
    return path.is_file() and any(
        isinstance(module, dict) and str(module.get("type")).endswith("Pooling")
        for module in _read_list(path)
    )


def read_modules(directory: Path) -> SentenceModules:
    """Return the modules of a folder.

    Raises:
      ValueError: a file is damaged, or a module or setting is not computed here.
    """
    directory = Path(directory)
    folders = _module_folders(directory / MODULES_FILE)
    options: dict[str, Any] = {
        "pooling": _read_pooling(folders["Pooling"] / "config.json"),
        "normalizes": "Normalize" in folders,
    }
    dense = folders.get("Dense")
    if dense is not None:
        options |= _read_dense(dense / "config.json")
    return SentenceModules(
        embedding(**options), _read_length(directory), dense, _read_prompts(directory)
    )


def _read_list(path: Path) -> list:
    """Return the list of modules.json.

    Raises:
      ValueError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, list):
        raise ValueError(f"{path} holds {shown(found)}; expected a list of modules")
    return found


def _module_folders(path: Path) -> dict[str, Path]:
    """Return the folder of each module by its kind.

    Raises:
      ValueError: a module is unknown, or the modules have another order.
    """
    folders: dict[str, Path] = {}
    for module in _read_list(path):
        kind = module.get("type") if isinstance(module, dict) else None
        match = TYPE.fullmatch(kind) if isinstance(kind, str) else None
        inner = module.get("path", "") if isinstance(module, dict) else None
        if match is None or not isinstance(inner, str) or ".." in Path(inner).parts:
            raise ValueError(
                f"{path}: module {len(folders)} is {shown(kind or module)}; this library computes "
                f"{', '.join(ORDER)} of sentence-transformers"
            )
        kinds = [*folders, match[1]]
        if sorted(kinds, key=ORDER.index) != kinds or len(set(kinds)) < len(kinds):
            raise ValueError(
                f"{path} has the modules {', '.join(kinds)}; expected Transformer, Pooling, at "
                "most one Dense, and Normalize or not, in this order"
            )
        folders[match[1]] = path.parent / inner
    if list(folders)[:2] != list(ORDER[:2]):
        found = ", ".join(folders) or "no modules"
        raise ValueError(f"{path} has {found}; expected a Transformer and a Pooling")
    if folders["Transformer"] != path.parent:
        raise ValueError(
            f"{path} has the encoder in {folders['Transformer']}; move its files into {path.parent}"
        )
    return folders


def _read_pooling(path: Path) -> str:
    """Return the pooling, "mean" or "cls".

    Raises:
      ValueError: it is another one.
    """
    raw = read_json(path)
    flagged = [mode for flag, mode in POOLING_FLAGS.items() if raw.get(flag)]
    modes = raw.get("pooling_mode", flagged or [MEAN])
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(
            f"{path} has the pooling {', '.join(map(str, modes))}; this library computes "
            f"{' or '.join(POOLINGS)}"
        )
    if raw.get("include_prompt", True) is not True:
        raise ValueError(
            f"{path}: include_prompt is {shown(raw['include_prompt'])}; this library pools all "
            "tokens, the tokens of a prompt too"
        )
    return modes[0]


def _read_dense(path: Path) -> dict[str, Any]:
    """Return the options of `embedding` for a dense layer.

    Raises:
      ValueError: a setting is not computed here.
    """
    raw = read_json(path)
    name = raw.get("activation_function", TORCH_ACTIVATIONS[TANH])
    match = TORCH_ACTIVATION.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ValueError(
            f"{path}: activation_function is {shown(name)}; expected "
            f"{' or '.join(TORCH_ACTIVATIONS.values())}"
        )
    for field in ("module_input_name", "module_output_name"):
        if raw.get(field) not in (None, SENTENCE_NAME):
            raise ValueError(f"{path}: {field} is {shown(raw[field])}; expected {SENTENCE_NAME}")
    if raw.get("use_residual"):
        raise ValueError(f"{path}: use_residual is set, which this library does not compute")
    size = raw.get("out_features")
    if type(size) is not int or size < 1:
        raise ValueError(f"{path}: out_features is {shown(size)}; expected a positive integer")
    return {"dense_dim": size, "dense_activation": match[1].lower()}


def _read_length(directory: Path) -> int | None:
    """Return the longest text in tokens; None where no file names one.

    Raises:
      ValueError: it is no number, or texts are made lower case by no tokenizer.
    """
    path = next((directory / name for name in LENGTH_FILES if (directory / name).is_file()), None)
    raw = {} if path is None else read_json(path)
    if raw.get("do_lower_case") and not _is_lower_case(directory):
        raise ValueError(
            f"{path}: do_lower_case is set, and the tokenizer keeps capitals; set the tokenizer's "
            "own lower case (a Lowercase normalizer in tokenizer.json), and false here"
        )
    length = raw.get("max_seq_length")
    settings = directory / "tokenizer_config.json"
    if length is None and settings.is_file():
        length = read_json(settings).get("model_max_length")
        length = length if type(length) is int else None  # 1e30 means no limit
    if length is not None and (type(length) is not int or length < 1):
        raise ValueError(f"{path}: max_seq_length is {shown(length)}; expected a positive integer")
    return length


def _is_lower_case(directory: Path) -> bool:
    """Return whether the tokenizer makes texts lower case."""
    normalizer = load_core(directory).normalizer
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def _read_prompts(directory: Path) -> dict[str, Any]:
    """Return the texts that are put before a text by their names, and the default one's name.

    A similarity other than the cosine is added.

    Raises:
      ValueError: they are no texts, the default one does not exist, or a similarity is unknown.
    """
    path = directory / PROMPTS_FILE
    raw = read_json(path) if path.is_file() else {}
    prompts, default = raw.get(PROMPTS) or {}, raw.get(DEFAULT_PROMPT)
    if not isinstance(prompts, dict) or not all(isinstance(x, str) for x in prompts.values()):
        raise ValueError(f"{path}: {PROMPTS} is {shown(prompts)}; expected an object of texts")
    if default is not None and default not in prompts:
        raise ValueError(f"{path}: {DEFAULT_PROMPT} is {shown(default)}, which {PROMPTS} lacks")
    extra: dict[str, Any] = {PROMPTS: prompts} if prompts else {}
    function = raw.get(SIMILARITY) or COSINE
    if function not in SIMILARITIES:
        raise ValueError(
            f"{path}: {SIMILARITY} is {shown(function)}; this library computes "
            f"{' and '.join(SIMILARITIES)}"
        )
    if function != COSINE:
        extra[SIMILARITY] = function
    return extra | ({} if default is None else {PROMPTS: prompts, DEFAULT_PROMPT: default})


def dense_tensors(directory: Path, head: Head) -> dict[str, np.ndarray]:
    """Return the tensors of a head's dense layer by their names in a saved model.

    None are returned for other heads, and for folders whose modules.json has no dense layer.

    Raises:
      ValueError: a file is damaged, or the folder's modules are others than the head's.
    """
    if head.name != "embedding" or not is_sentence_folder(directory):
        return {}
    found = read_modules(directory)
    if found.head is not head or found.dense is None:
        return {}
    return read_dense_tensors(found.dense)


def read_dense_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return weight and bias of a dense layer by their names in a saved model.

    Raises:
      ValueError: the folder has no weights, or other tensors.
    """
    path = next((folder / name for name in READERS if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} holds no weights; expected one of {', '.join(READERS)}")
    tensors = READERS[path.name](path)
    if "linear.weight" not in tensors or not tensors.keys() <= DENSE_NAMES.keys():
        raise ValueError(
            f"{path} holds {shown(sorted(tensors))}; expected {' and '.join(DENSE_NAMES)}"
        )
    found = {DENSE_NAMES[name]: value for name, value in tensors.items()}
    bias = np.zeros(tensors["linear.weight"].shape[:1], np.float32)
    return {"sentence_dense.bias": bias} | found


def write_modules(
    folder: Path, head: Head, config: EncoderConfig, *, max_length: int, extra: dict[str, Any]
) -> None:
    """Write the modules of a model of vectors, so that sentence-transformers loads the folder.

    It runs all tokens. Folders of other heads stay as they are.

    Args:
      folder: of the model, which is being written; the weights are there.
      head: of the model.
      config: of the encoder.
      max_length: token slots.
      extra: JSON values of the model.
    """
    if head.name != "embedding":
        return
    options = dict(head.factory_kwargs)
    pooling = {flag: mode == options["pooling"] for flag, mode in POOLING_FLAGS.items()}
    modules: dict[str, Any] = {"Transformer": None}
    modules["Pooling"] = {"word_embedding_dimension": config.hidden_dim, **pooling}
    if "dense_dim" in options:
        modules["Dense"] = {
            "in_features": config.hidden_dim,
            "out_features": options["dense_dim"],
            "bias": True,
            "activation_function": TORCH_ACTIVATIONS[options["dense_activation"]],
        }
    if options["normalizes"]:
        modules["Normalize"] = {}
    rows = []
    for index, (kind, fields) in enumerate(modules.items()):
        inner = "" if fields is None else f"{index}_{kind}"
        type_name = f"sentence_transformers.models.{kind}"
        rows.append({"idx": index, "name": str(index), "path": inner, "type": type_name})
        if fields is not None:
            (folder / inner).mkdir(exist_ok=True)
            _write_json(folder / inner / "config.json", fields)
        if kind == "Dense":
            with safetensors.safe_open(folder / WEIGHTS_FILE, "np") as file:
                found = {own: file.get_tensor(name) for own, name in DENSE_NAMES.items()}
            safetensors.numpy.save_file(found, folder / inner / WEIGHTS_FILE)
    _write_json(folder / MODULES_FILE, rows)
    _write_json(folder / LENGTH_FILES[0], {"max_seq_length": max_length, "do_lower_case": False})
    prompts = {name: extra.get(name) for name in (PROMPTS, DEFAULT_PROMPT)}
    prompts[PROMPTS] = prompts[PROMPTS] or {}
    function = {SIMILARITY: extra.get(SIMILARITY, COSINE)}
    _write_json(folder / PROMPTS_FILE, prompts | function)


def _write_json(path: Path, contents) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
