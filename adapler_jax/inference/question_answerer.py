"""A saved model that answers questions about texts, as its users see it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.windows import Windows
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import (
    exit_layer,
    open_model,
    padded_batch_size,
    prepare_model,
    qa_settings,
    sorted_batches,
    warm_up,
    with_origin,
)
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.processes import Portable, check_process
from adapler_jax.inference.text_reader import INFERENCE_FIELDS, TextReader
from adapler_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class QuestionAnswerer(Portable, TextReader):
    """A model that finds answers in texts of any length.

    Make one with `QuestionAnswerer.load`.
    """

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    num_layers: int
    max_length: int  # token slots
    lengths: tuple[int, ...]  # padded lengths of batches
    limits: dict[str, int]  # INFERENCE_FIELDS of the model's training
    # No answer where it scores so much more than the best span; None: always a span.
    threshold: float | None
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls,
        directory,
        *,
        compilation_cache: str = "",
        always_answers: bool = False,
        **options: Unpack[EngineOptions],
    ) -> "QuestionAnswerer":
        """Load a saved model directory.

        Args:
          directory: of the model.
          compilation_cache: as in `Classifier.load`.
          always_answers: return the best span even where the model prefers no answer.
          **options: as in `Classifier.load`.

        Returns:
          The question answerer.

        Raises:
          ValueError: the model is damaged, or has no span head.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head.name != "span":
            raise ValueError(
                f"{directory} holds a model of the task {saved.task!r} with the head "
                f"{saved.head.name!r}, which finds no answers in texts; {loader_hint(saved)}, or "
                "train one on a task as custom_span"
            )
        loaded = prepare_model(saved, **options)
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            dtype=loaded.dtype,
            limits=qa_settings(saved, *INFERENCE_FIELDS),
            threshold=None if always_answers else saved.extra.get("no_answer_threshold"),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program for batches up to this size.

        Args:
          batch_size: as in `answer`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def window_logits(
        self, windows: Windows, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield numbers of windows [B], logits [B, L, 2], and layers that ran on tokens [B, L].

        Args:
          windows: of questions.
          batch_size: windows of a batch; fewer run in a batch of the next power of two.

        Raises:
          RuntimeError: JAX cannot run in this process.
        """
        check_process()
        num_rows = padded_batch_size(len(windows), batch_size)
        batches = sorted_batches(
            windows.tokens, windows.segments, lengths=self.lengths, num_rows=num_rows
        )
        for row_B, batch in batches:
            logits_BL2, trace = self.run(self.params, batch)
            exit_layer_BL = exit_layer(trace, batch, self.num_layers)
            yield row_B, np.asarray(logits_BL2)[: len(row_B)], exit_layer_BL
