"""Tensors by name from the weight files of a model directory, as NumPy arrays in the dtype that was stored."""

import importlib.util
import pickle
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import numpy as np
import safetensors
from flax.traverse_util import flatten_dict

from adapler_jax.weights.config import read_json

FLAX_LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of one safetensors file."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, TypeError) as error:  # TypeError: a dtype that NumPy does not know
        raise ValueError(damaged(path, error)) from error


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """All tensors of one PyTorch file, read without running any code in it."""
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"{path} needs torch to be read: pip install torch, or convert it to model.safetensors")
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text recommends to load unsafely
        raise ValueError(f"{path} holds more than tensors, or is damaged; nothing of it was loaded") from error
    except Exception as error:  # damaged files end in any of ten types, IndexError and struct.error among them
        raise ValueError(damaged(path, error)) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ValueError(f"{path} does not hold a plain dict of tensors by name")
    return {
        name: value.view(torch.uint16).numpy().view(jnp.bfloat16) if value.dtype == torch.bfloat16 else value.numpy()
        for name, value in ((name, value.detach()) for name, value in tensors.items())
    }


def read_flax(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a Flax checkpoint under the names, and in the orientation, of the PyTorch files."""
    try:
        restored = flax.serialization.msgpack_restore(path.read_bytes())
        arrays = flatten_dict(restored.get("params", restored))
    except (ValueError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(damaged(path, error)) from error
    tensors = {}
    for keys, value in arrays.items():
        name = ".".join((*keys[:-1], FLAX_LEAVES.get(keys[-1], keys[-1])))
        tensors[name] = np.asarray(value).T if keys[-1] == "kernel" else np.asarray(value)
    return tensors


def damaged(path: Path, error: Exception) -> str:
    """The message for a file that cannot be parsed."""
    return f"{path} ({path.stat().st_size} bytes) is truncated or corrupt, copy or download it again: {error}"


# In the order of preference; an index lists the files of a sharded checkpoint.
READERS = {
    "model.safetensors": read_safetensors,
    "model.safetensors.index.json": read_safetensors,
    "pytorch_model.bin": read_torch,
    "pytorch_model.bin.index.json": read_torch,
    "flax_model.msgpack": read_flax,
}


def find_weights(directory: Path) -> Path | None:
    """The weight file to read, or the index of a sharded checkpoint; None where there is none.

    A PyTorch file counts last where torch is not installed, so that a Flax file beside it is read instead.
    """
    found = [directory / name for name in READERS if (directory / name).is_file()]
    if importlib.util.find_spec("torch") is None:
        found.sort(key=lambda path: READERS[path.name] is read_torch)
    return found[0] if found else None


def shard_paths(index: Path) -> list[Path]:
    """The files that an index lists. Raises ValueError with all that are missing."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map from tensor names to files")
    paths = [index.parent / name for name in sorted({str(name) for name in weight_map.values()})]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"{index} lists files that are not there: {', '.join(missing)}")
    return paths


def read_tensors(directory: Path) -> tuple[dict[str, np.ndarray], Path]:
    """All tensors of a model directory and the file, or index, that they came from."""
    source = find_weights(directory)
    if source is None:
        raise ValueError(f"{directory} holds no weights; expected one of {', '.join(READERS)}")
    reader = READERS[source.name]
    tensors: dict[str, np.ndarray] = {}
    for path in shard_paths(source) if source.name.endswith(".index.json") else [source]:
        tensors |= reader(path)
    return tensors, source
