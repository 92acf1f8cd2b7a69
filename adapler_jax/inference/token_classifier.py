"""A model that gives tags to tokens as its users see it: texts in, entities out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.entities import EntityJoiner, TokenizedText
from adapler_jax.inference.loading import (
    open_model,
    padded_batch_size,
    prepare_model,
    truncation_side_of,
    warm_up,
    with_origin,
)
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.processes import Portable, check_process
from adapler_jax.inference.rows import RowRunner
from adapler_jax.inference.text_tagger import TextTagger
from adapler_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class TokenClassifier(Portable, TextTagger):
    """A model that finds entities or parts of speech. Make one with `TokenClassifier.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    joiner: EntityJoiner = dataclasses.field(repr=False)
    class_names: tuple[str, ...]  # the tags, in the order of the logits
    num_layers: int
    max_length: int  # token slots of a text
    lengths: tuple[int, ...]  # padded lengths of batches
    truncation_side: str = "right"  # that loses the tokens of long texts
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls, directory, *, compilation_cache: str = "", **options: Unpack[EngineOptions]
    ) -> "TokenClassifier":
        """Load a model of tags.

        Args:
          directory: as in `Classifier.load`, of a model for token classification.
          compilation_cache: as in `Classifier.load`.
          **options: as in `Classifier.load`.

        Raises:
          ValueError: the model is damaged, or gives no tags to tokens.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head is not TOKEN_CLASSIFICATION:
            raise ValueError(
                f"{directory} holds a model with the head {saved.head.name!r}, which gives no tags "
                f"to tokens; {loader_hint(saved)}"
            )
        loaded = prepare_model(saved, **options)
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            joiner=EntityJoiner(loaded.tokenizer, saved.class_names, loaded.unknown_token),
            class_names=saved.class_names,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            truncation_side=truncation_side_of(saved, loaded.tokenizer_side),
            dtype=loaded.dtype,
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program for batches up to this size.

        Args:
          batch_size: as in `predict`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def tag_probs(
        self, rows: Sequence[TokenizedText], batch_size: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each row and its probabilities, float32 [slots, tags], unordered.

        Args:
          rows: of `encode`.
          batch_size: rows of a batch; fewer rows run in a batch of the next power of two.

        Raises:
          RuntimeError: JAX cannot run in this process.
        """
        check_process()
        if not rows:
            return
        runner = RowRunner(self.run, self.params, self.lengths, self.num_layers, None)
        num_rows = padded_batch_size(len(rows), batch_size)
        for row_B, _, prob_BLC, _ in runner.batches(rows, num_rows):
            yield from zip(row_B.tolist(), prob_BLC)
