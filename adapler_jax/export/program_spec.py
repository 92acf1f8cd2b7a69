"""The description of an exported program: all that decides it, and its form in the file."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike

from adapler_jax.data.batching.lengths import default_lengths
from adapler_jax.encoders.base import slice_of_layer
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, check_buckets
from adapler_jax.inference.drivers.stages import StagedProgram, without_layers
from adapler_jax.inference.engine import STAGED_DRIVERS
from adapler_jax.inference.model_kind import check_classifies, max_length_of
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.types import EncoderConfig, Params, compute_dtype
from adapler_jax.weights.save import Saved

PLATFORMS = ("cpu", "cuda", "tpu")
ANY = "any"  # batch size, on any platform
# Variants of a program: any batch size on all platforms, and one text on each platform.
VARIANTS = {ANY: PLATFORMS} | {platform: (platform,) for platform in PLATFORMS}
PROGRAM_FILES = "program-*.zip"  # in a model directory
HEADER, FORMAT = "header.json", 2
CUSTOM_CALLS_KEY = "custom_calls"  # of the header: custom calls that the programs contain
# Sources that decide a program, from the package's folder.
SOURCES = (
    "types.py",
    "nn.py",
    "encoders/*.py",
    "heads/*.py",
    "forward.py",
    "pruning/*.py",
    "inference/**/*.py",
    "export/*.py",
)


@dataclasses.dataclass(frozen=True)
class ProgramSpec:
    """All that decides the programs of a classifier, except the code."""

    config: EncoderConfig
    pruner: Pruner
    driver: str
    dtype: np.dtype
    buckets: tuple[int, ...]
    max_length: int  # token slots
    num_classes: int
    pruner_shapes: dict[str, tuple[int, ...]]  # of its leaves, by path

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the padded lengths of batches; one if the program skips padding by itself."""
        return (self.max_length,) if self.pruner.sites else default_lengths(self.max_length)

    @property
    def file_name(self) -> str:
        """Return the name of the file in the model directory."""
        return f"program-{self.driver}-{self.dtype.name}.zip"

    def stages(self, shape: tuple) -> StagedProgram | None:
        """Return the staged program for a batch [B, L] of one text; None for other sizes."""
        if shape[0] != 1:
            return None
        make_stages = STAGED_DRIVERS[self.driver]
        return make_stages(self.config, self.pruner, shape, buckets=self.buckets, dtype=self.dtype)

    def header(self) -> dict[str, Any]:
        """Return the header of the file, as JSON reads it."""
        header = {
            "format": FORMAT,
            "jax": jax.__version__,
            "code": digest_of_code(),
            "platforms": PLATFORMS,
            "encoder": dataclasses.asdict(self.config),
            "pruner": self.pruner.name,
            "sites": self.pruner.sites,
            "driver": self.driver,
            "dtype": self.dtype.name,
            "buckets": self.buckets,
            "lengths": self.lengths,
            "num_classes": self.num_classes,
            "pruner_shapes": self.pruner_shapes,
            "matmul_precision": jax.config.values["jax_default_matmul_precision"],
            "x64": jax.config.values["jax_enable_x64"],
        }
        return json.loads(json.dumps(header))


def program_spec(
    saved: Saved, *, buckets: Sequence[int] | None, dtype: DTypeLike, driver: str
) -> ProgramSpec:
    """Return the description of a saved model's program; arguments as in `make_engine`.

    Raises:
      ValueError: the model is no classifier.
    """
    check_classifies(saved)
    leaves = flatten_dict(saved.params["pruner"])
    return ProgramSpec(
        config=saved.config,
        pruner=pruner_of_saved(saved),
        driver=driver,
        dtype=np.dtype(compute_dtype(dtype)),
        buckets=DEFAULT_BUCKETS if buckets is None else check_buckets(buckets),
        max_length=max_length_of(saved),
        num_classes=len(saved.class_names),
        pruner_shapes={"/".join(path): leaf.shape for path, leaf in leaves.items()},
    )


def digest_of_code() -> str:
    """Return a hash of the sources that decide a program."""
    folder, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(folder.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def split_layers(stages: StagedProgram, params: Params) -> Params:
    """Split parameters for the stages of a program; compiles nothing.

    Returns:
      `outer` for the embedding and the readout, and `layers`, a list for each layer's stage.
    """
    outer, layers = without_layers(params), params["encoder"]["layers"]
    host_pruner = jax.tree.map(np.asarray, outer["pruner"])
    inputs = stages.layer_inputs(outer | {"pruner": host_pruner})
    inputs_of_layers = [slice_of_layer(inputs, index) for index in range(len(layers))]
    on_device = jax.device_put(inputs_of_layers)
    return {
        "outer": outer,
        "layers": [(layer, *found) for layer, found in zip(layers, on_device)],
    }
