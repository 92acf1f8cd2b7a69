"""Make vectors with an exported file, without JAX; `adapler_jax.onnx` shows the class.

Shape letters:

    I entries of a vector
    M texts of a call
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.export.onnx.engines import (
    FLOAT32,
    ONNXRUNTIME,
    Engine,
    load_file,
    other_class,
    run_rows,
)
from adapler_jax.inference.vectors import COSINE, TextEncoder
from adapler_jax.inference.words import Tokens


@dataclasses.dataclass(frozen=True, eq=False)
class Embedder(TextEncoder):
    """An exported model that returns the vectors of texts. Make one with `Embedder.load`."""

    engine: Engine = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    dim: int  # entries of a vector
    max_length: int  # token slots of a text
    truncation_side: str  # that loses the tokens of long texts
    prompts: Mapping[str, str]  # by name
    default_prompt_name: str | None
    similarity_fn_name: str = COSINE
    normalizes: bool = False  # the file does so itself

    @classmethod
    def load(
        cls,
        directory,
        *,
        engine: str = ONNXRUNTIME,
        file_name: str | None = None,
        num_threads: int | None = None,
        dtype: str = FLOAT32,
    ) -> "Embedder":
        """Load a model directory with an exported file.

        Arguments are as in `adapler_jax.onnx.Classifier.load`.

        Raises:
          ValueError: there is no such file or dtype, or the file is of another task.
          ImportError: the engine is not installed.
        """
        found = load_file(directory, engine, file_name, num_threads=num_threads, dtype=dtype)
        if found.settings.get("dim") is None:
            raise ValueError(f"{found.path} gives no vectors; {other_class(found.settings)}")
        return cls(
            engine=found.engine,
            tokenizer=found.tokenizer,
            dim=found.settings["dim"],
            max_length=found.settings["max_length"],
            truncation_side=found.truncation_side,
            prompts=found.settings["prompts"],
            default_prompt_name=found.settings["default_prompt_name"],
            similarity_fn_name=found.settings.get("similarity_fn_name", COSINE),
        )

    def vectors(self, rows: Sequence[Tokens], batch_size: int) -> np.ndarray:
        """Return the vectors of rows of tokens, float32 [rows, dim]."""
        vector_MI = np.zeros((len(rows), self.dim), np.float32)
        for row_B, vector_BI, _ in run_rows(self.engine, rows, batch_size):
            vector_MI[row_B] = vector_BI
        return vector_MI
