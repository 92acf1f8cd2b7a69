"""Give tags to tokens with an exported file, without JAX; `adapler_jax.onnx` shows the class."""

import dataclasses
from collections.abc import Iterator, Sequence

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
from adapler_jax.inference.entities import EntityJoiner, TokenizedText
from adapler_jax.inference.text_tagger import TextTagger
from adapler_jax.metrics.classification import softmax


@dataclasses.dataclass(frozen=True, eq=False)
class TokenClassifier(TextTagger):
    """An exported model that finds entities. Make one with `TokenClassifier.load`."""

    engine: Engine = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    joiner: EntityJoiner = dataclasses.field(repr=False)
    class_names: tuple[str, ...]  # the tags, in the order of the logits
    max_length: int  # token slots of a text
    truncation_side: str  # that loses the tokens of long texts

    @classmethod
    def load(
        cls,
        directory,
        *,
        engine: str = ONNXRUNTIME,
        file_name: str | None = None,
        num_threads: int | None = None,
        dtype: str = FLOAT32,
    ) -> "TokenClassifier":
        """Load a model directory with an exported file.

        Arguments are as in `adapler_jax.onnx.Classifier.load`.

        Raises:
          ValueError: there is no such file or dtype, or the file is of another task.
          ImportError: the engine is not installed.
        """
        found = load_file(directory, engine, file_name, num_threads=num_threads, dtype=dtype)
        settings = found.settings
        if not settings.get("gives_tags"):
            raise ValueError(f"{found.path} gives no tags to tokens; {other_class(settings)}")
        class_names = tuple(settings["class_names"])
        return cls(
            engine=found.engine,
            tokenizer=found.tokenizer,
            joiner=EntityJoiner(found.tokenizer, class_names, found.unknown_token),
            class_names=class_names,
            max_length=settings["max_length"],
            truncation_side=found.truncation_side,
        )

    def tag_probs(
        self, rows: Sequence[TokenizedText], batch_size: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each row and its probabilities, float32 [slots, tags], unordered."""
        for row_B, logits_BLC, _ in run_rows(self.engine, rows, batch_size):
            yield from zip(row_B.tolist(), softmax(logits_BLC))
