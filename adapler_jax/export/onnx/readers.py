"""Answer questions with an exported file, without JAX; `adapler_jax.onnx` shows the class."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.windows import Windows
from adapler_jax.export.onnx.engines import (
    FLOAT32,
    ONNXRUNTIME,
    Engine,
    load_file,
    other_class,
    run_rows,
)
from adapler_jax.export.onnx.settings import READING
from adapler_jax.inference.text_reader import TextReader
from adapler_jax.inference.words import Tokens


@dataclasses.dataclass(frozen=True, eq=False)
class QuestionAnswerer(TextReader):
    """An exported model that finds answers in texts. Make one with `QuestionAnswerer.load`."""

    engine: Engine = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    num_layers: int
    max_length: int  # token slots
    limits: dict[str, int]  # of windows and answers, as in the model's training
    # No answer where it scores so much more than the best span; None: always a span.
    threshold: float | None

    @classmethod
    def load(
        cls,
        directory,
        *,
        engine: str = ONNXRUNTIME,
        file_name: str | None = None,
        num_threads: int | None = None,
        dtype: str = FLOAT32,
        always_answers: bool = False,
    ) -> "QuestionAnswerer":
        """Load a model directory with an exported file.

        Args:
          directory: as in `adapler_jax.onnx.Classifier.load`.
          engine: as there.
          file_name: as there.
          num_threads: as there.
          dtype: as there.
          always_answers: return the best span even where the model prefers no answer.

        Raises:
          ValueError: there is no such file or dtype, or the file is of another task.
          ImportError: the engine is not installed.
        """
        found = load_file(directory, engine, file_name, num_threads=num_threads, dtype=dtype)
        settings = found.settings
        reading = settings.get(READING)
        if reading is None:
            raise ValueError(
                f"{found.path} answers no questions about texts; {other_class(settings)}"
            )
        return cls(
            engine=found.engine,
            tokenizer=found.tokenizer,
            num_layers=settings["num_layers"],
            max_length=settings["max_length"],
            limits=reading["limits"],
            threshold=None if always_answers else reading["no_answer_threshold"],
        )

    def window_logits(
        self, windows: Windows, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield numbers of windows [B], logits [B, L, 2], and layers that ran on tokens [B, L]."""
        rows = [
            Tokens(windows.tokens[row], windows.segments[row], is_cut=False)
            for row in range(len(windows))
        ]
        yield from run_rows(self.engine, rows, batch_size)
