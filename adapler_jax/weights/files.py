"""Read the tensors of a model directory's weight files, as NumPy arrays in the stored dtype."""

import collections
import functools
import importlib.util
import pickle
import re
from collections.abc import Callable, Container, Iterable
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import numpy as np
import safetensors
from flax.traverse_util import flatten_dict

from adapler_jax.encoders import encoder_of
from adapler_jax.io.messages import listed, shown
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.checkpoint_formats import (
    BERT_FAMILY,
    DISTILBERT,
    OWN_FILE,
    bert_tensors,
    renamed,
    with_own_tables,
)
from adapler_jax.weights.config import read_json
from adapler_jax.weights.rules import name_with_prefix, unwrapped_name
from adapler_jax.weights.tree import canonicalize

# Supported dtypes, as the files name them.
SAFE_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
)
TORCH_DTYPES = tuple(
    f"torch.{name}"
    for name in (
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
    )
)
STATE_DICTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
)  # keys of training loops' files, outermost first
MAX_NAME = 255  # characters of a file name
# Where an encoder's part of a tensor's name begins.
ENCODER_PART = re.compile(
    r"(.*?)(?:embeddings\.(?:word|position|token_type)_|(?:encoder|transformer)\.layer\.\d)"
)
LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")
WORDS = "bert.embeddings.word_embeddings.weight"
FLAX_LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return all tensors of one safetensors file.

    Raises:
      ValueError: it is damaged, or has an unsupported dtype.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            check_dtypes(
                {name: file.get_slice(name).get_dtype() for name in names}, SAFE_DTYPES, path
            )
            return {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, TypeError) as error:
        raise ValueError(damaged(path, error)) from error


def named_tensors(stored: dict, config: EncoderConfig, raw: dict, source: Path) -> dict:
    """Return the tensors of a file under the names of the rule table.

    BERT's family has published names that differ from the table's. Files of an encoder alone may
    lack the first part of the names.

    Args:
      stored: by their names in the file.
      config: of the encoder.
      raw: contents of config.json.
      source: the file.

    Raises:
      ValueError: two names mean one tensor.
    """
    if config.family != BERT_FAMILY:
        encoder = encoder_of(config)
        rename = functools.partial(name_with_prefix, encoder=encoder)
        tensors = renamed(stored, rename, source)
        if encoder.config_format is None:
            return tensors
        return encoder.config_format.from_published(tensors)
    tensors = add_own_tables(renamed(stored, unwrapped_name, source), raw, source)
    return canonicalize(bert_tensors(tensors, raw, source), source)


def read_canonical(directory: Path, config: EncoderConfig, raw: dict) -> tuple[dict, Path]:
    """Read the tensors of a directory under the names of the rule table.

    Returns:
      The tensors by name, and their file.

    Raises:
      ValueError: the encoder lacks tensors that exist with a prefix; the message names it.
    """
    stored, source = read_tensors(directory)
    tensors = named_tensors(stored, config, raw, source)
    if config.family != BERT_FAMILY:
        return tensors, source
    layers = {match[1] for match in map(LAYER.match, tensors) if match}
    if WORDS not in tensors or len(layers) < config.num_layers:
        check_prefix(tensors, stored, source)
    return tensors, source


def check_prefix(tensors: dict, stored: Iterable[str], source) -> None:
    """Raise ValueError if names with a prefix would be the encoder's without it.

    Args:
      tensors: by canonical name.
      stored: names in the file, without wrappers.
      source: the file.
    """
    found = collections.Counter(match[1] for match in map(ENCODER_PART.match, tensors) if match)
    del found["bert."]
    if found:
        prefix, count = found.most_common(1)[0]
        # The table's own prefix may have been added.
        if not any(unwrapped_name(name).startswith(prefix) for name in stored):
            prefix = prefix.removeprefix("bert.")
        raise ValueError(
            f"{source}: the encoder lacks tensors, and {count} names have the prefix "
            f"{shown(prefix)}, without which they would match; rename them without it"
        )


def add_own_tables(tensors: dict, raw: dict, source: Path) -> dict:
    """Add the tensors that this library keeps in `OWN_FILE` next to a weight file.

    Args:
      tensors: by their names in the file, without wrappers.
      raw: contents of config.json.
      source: the weight file; only model.safetensors has another one next to it.

    Raises:
      ValueError: the file next to it is damaged, or belongs to other weights.
    """
    own = source.with_name(OWN_FILE)
    if (
        raw.get("model_type") not in DISTILBERT
        or source.name != "model.safetensors"
        or not own.is_file()
    ):
        return tensors
    return with_own_tables(tensors, read_safetensors(own), own)


def check_dtypes(dtypes: dict[str, str], known: Container[str], path: Path) -> None:
    """Check that all dtypes are supported.

    Raises:
      ValueError: naming tensor and dtype.
    """
    unknown = {name: dtype for name, dtype in dtypes.items() if dtype not in known}
    if unknown:
        found = listed(f"{name} is stored as {dtype}" for name, dtype in unknown.items())
        raise ValueError(
            f"{path} has {len(unknown)} tensors of dtypes that are not read: {found}; "
            "save the model in float32, float16 or bfloat16, without quantisation"
        )


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Return all tensors of one PyTorch file, without running code from it."""
    if importlib.util.find_spec("torch") is None:
        raise ValueError(
            f"{path} needs torch to be read: pip install torch, or convert it to model.safetensors"
        )
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text recommends to load unsafely
        raise ValueError(
            f"{path} holds more than tensors, or is damaged; nothing of it was loaded"
        ) from error
    except (
        Exception
    ) as error:  # damaged files end in any of ten types, IndexError and struct.error among them
        raise ValueError(damaged(path, error)) from error
    tensors = state_dict_of(stored, path)
    strange = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise ValueError(
            f"{path} does not hold a plain dict of tensors by name: {shown(strange[0])} is no "
            "tensor"
        )
    check_dtypes({name: str(value.dtype) for name, value in tensors.items()}, TORCH_DTYPES, path)
    odd = [
        name
        for name, value in tensors.items()
        if value.layout is not torch.strided or value.is_meta
    ]
    if odd:
        raise ValueError(
            f"{path}: tensor {shown(odd[0], 200)} is sparse or without values; save it as a "
            "plain tensor"
        )
    return {
        name: value.view(torch.uint16).numpy().view(jnp.bfloat16)
        if value.dtype == torch.bfloat16
        else value.numpy()
        for name, value in ((name, value.detach().contiguous()) for name, value in tensors.items())
    }


def state_dict_of(stored, path: Path) -> dict:
    """Return the dict of tensors of a PyTorch file, with or without a training loop's wrapper."""
    for key in STATE_DICTS:
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
    if not isinstance(stored, dict) or not all(isinstance(name, str) for name in stored):
        raise ValueError(
            f"{path} does not hold a plain dict of tensors by name, nor one under "
            f"{', '.join(map(repr, STATE_DICTS))}"
        )
    return stored


def read_flax(path: Path) -> dict[str, np.ndarray]:
    """Return a Flax checkpoint's arrays in the names and orientation of the PyTorch files."""
    try:
        restored = flax.serialization.msgpack_restore(path.read_bytes())
        arrays = flatten_dict(restored.get("params", restored))
        names = {
            keys: (*map(str, keys[:-1]), FLAX_LEAVES.get(keys[-1], str(keys[-1])))
            for keys in arrays
        }
        return {
            ".".join(names[keys]): np.asarray(value).T
            if keys[-1] == "kernel"
            else np.asarray(value)
            for keys, value in arrays.items()
        }
    except OSError:
        raise
    except (
        Exception
    ) as error:  # damaged files end in many types, KeyError and struct.error among them
        raise ValueError(damaged(path, error)) from error


def damaged(path: Path, error: Exception) -> str:
    """Return the message for a file that cannot be parsed."""
    size = path.stat().st_size
    return f"{path} ({size} bytes) is truncated or corrupt, copy or download it again: {error}"


# In the order of preference; an index lists the files of a sharded checkpoint.
READERS = {
    "model.safetensors": read_safetensors,
    "model.safetensors.index.json": read_safetensors,
    "pytorch_model.bin": read_torch,
    "pytorch_model.bin.index.json": read_torch,
    "flax_model.msgpack": read_flax,
}


def find_weights(directory: Path) -> Path | None:
    """Return the weight file to read, or the index of a sharded checkpoint; None without either.

    Without torch a PyTorch file has the lowest preference, so that a Flax file next to it is read.
    """
    found = [directory / name for name in READERS if (directory / name).is_file()]
    if importlib.util.find_spec("torch") is None:
        found.sort(key=lambda path: READERS[path.name] is read_torch)
    return found[0] if found else None


def read_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor from an index.

    Raises:
      ValueError: a file is missing, or outside of the index's folder.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map from tensor names to files")
    files = {repr(name): name for name in weight_map.values()}
    for name in files.values():
        if not is_inside(index.parent, name):
            raise ValueError(
                f"{index} names the file {shown(name)}, which is not inside its folder; only "
                "files of the "
                "folder are read"
            )
    missing = sorted(name for name in files.values() if not (index.parent / name).is_file())
    if missing:
        raise ValueError(f"{index} lists files that are not there: {listed(missing)}")
    return weight_map


def is_inside(folder: Path, name) -> bool:
    """Return whether a name is a file in the folder or a link from there to the hub's cache."""
    if not isinstance(name, str) or not is_relative_name(name):
        return False
    folder = folder.resolve()
    allowed = [folder]
    if folder.parent.name == "snapshots":  # the hub's cache links to its own blobs
        allowed.append(folder.parent.parent / "blobs")
    try:
        target = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError):  # circular links, or invalid characters
        return False
    return any(target.is_relative_to(parent) for parent in allowed)


def is_relative_name(name: str) -> bool:
    """Return whether a name is a relative path that stays in its folder."""
    path = Path(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        return False
    return all(len(part) <= MAX_NAME for part in path.parts)


def read_shards(index: Path, reader: Callable[[Path], dict]) -> dict[str, np.ndarray]:
    """Return the tensors of all files of an index; the index decides between duplicates."""
    weight_map = read_map(index)
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(set(weight_map.values())):
        found = reader(index.parent / file)
        expected = [name for name, location in weight_map.items() if location == file]
        lacking = [name for name in expected if name not in found]
        if lacking:
            raise ValueError(
                f"{index.parent / file} lacks tensors that {index.name} names: {listed(lacking)}"
            )
        for name in found:
            if name not in weight_map and name in tensors:
                raise ValueError(
                    f"{index}: tensor {shown(name, 200)} is in two files, and the index names "
                    "neither"
                )
        tensors |= {
            name: value for name, value in found.items() if weight_map.get(name, file) == file
        }
    return tensors


def read_tensors(directory: Path) -> tuple[dict[str, np.ndarray], Path]:
    """Return all tensors of a model directory, and the file or index that has them."""
    source = find_weights(directory)
    if source is None:
        raise ValueError(f"{directory} holds no weights; expected one of {', '.join(READERS)}")
    reader = READERS[source.name]
    is_index = source.name.endswith(".index.json")
    return read_shards(source, reader) if is_index else reader(source), source
