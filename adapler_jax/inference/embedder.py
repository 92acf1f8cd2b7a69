"""A model of vectors as its users see it: texts in, vectors out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import (
    open_model,
    padded_batch_size,
    prepare_model,
    truncation_side_of,
    warm_up,
    with_origin,
)
from adapler_jax.inference.processes import Portable, check_process
from adapler_jax.inference.rows import RowRunner
from adapler_jax.inference.vectors import TextEncoder
from adapler_jax.inference.words import Tokens
from adapler_jax.types import Params
from adapler_jax.weights.folders import embedding_head
from adapler_jax.weights.sentence_modules import COSINE, DEFAULT_PROMPT, PROMPTS, SIMILARITY


@dataclasses.dataclass(frozen=True, eq=False)
class Embedder(Portable, TextEncoder):
    """A model that returns the vectors of texts. Make one with `Embedder.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    dim: int  # entries of a vector
    normalizes: bool  # the model's own vectors have length 1
    num_layers: int
    max_length: int  # token slots of a text
    lengths: tuple[int, ...]  # padded lengths of batches
    truncation_side: str = "right"  # that loses the tokens of long texts
    dtype: str = "float32"  # of the operands of the encoder's products
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)  # by name
    default_prompt_name: str | None = None
    similarity_fn_name: str = COSINE

    @classmethod
    @with_origin
    def load(
        cls,
        directory,
        *,
        pooling: str | None = None,
        compilation_cache: str = "",
        **options: Unpack[EngineOptions],
    ) -> "Embedder":
        """Load a model of vectors.

        Args:
          directory: of a saved model of this library, or of a model of sentence-transformers, which
            runs all tokens; or its name on the Hugging Face hub.
          pooling: "mean" or "cls", for a plain encoder without modules of sentence-transformers.
          compilation_cache: as in `Classifier.load`.
          **options: as in `Classifier.load`.

        Raises:
          ValueError: the model is damaged, has a module or pooling that is not computed here, or
            returns no vectors.
        """
        head = embedding_head(directory, pooling)
        saved = open_model(directory, compilation_cache=compilation_cache, head=head)
        loaded = prepare_model(saved, **options)
        (dim,) = saved.head.logits_shape(saved.config, loaded.max_length, 0)
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            dim=dim,
            normalizes=dict(saved.head.factory_kwargs)["normalizes"],
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            truncation_side=truncation_side_of(saved, loaded.tokenizer_side),
            dtype=loaded.dtype,
            prompts=saved.extra.get(PROMPTS, {}),
            default_prompt_name=saved.extra.get(DEFAULT_PROMPT),
            similarity_fn_name=saved.extra.get(SIMILARITY, COSINE),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program for batches up to this size.

        Args:
          batch_size: as in `encode`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def vectors(self, rows: Sequence[Tokens], batch_size: int) -> np.ndarray:
        """Return the vectors of rows of tokens before they are normalised, float32 [rows, dim].

        Args:
          rows: of `encode_tokens`.
          batch_size: rows of a batch; fewer rows run in a batch of the next power of two.

        Raises:
          RuntimeError: JAX cannot run in this process.
        """
        check_process()
        if not rows:
            return np.zeros((0, self.dim), np.float32)
        runner = RowRunner(self.run, self.params, self.lengths, self.num_layers, None, np.asarray)
        num_rows = padded_batch_size(len(rows), batch_size)
        return runner.probs(rows, num_rows, None, num_classes=self.dim)[0]
