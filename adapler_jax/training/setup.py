"""From a config to what every phase works on: data in tokens, the encoder's sizes, the weights to start from."""

import hashlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from adapler_jax.data.batches import eval_batches
from adapler_jax.data.lengths import batch_lengths, bucket_for
from adapler_jax.data.tasks import get_task
from adapler_jax.data.tokenizers import load_tokenizer
from adapler_jax.data.tokens import Tokenized
from adapler_jax.heads import Head
from adapler_jax.inference.buckets import DEFAULT_BUCKETS, check_buckets, ladder
from adapler_jax.inference.engine import AUTO
from adapler_jax.inference.ids import check_rows
from adapler_jax.training.task_data import TaskData, is_reading, load_task_data
from adapler_jax.types import COMPUTE_DTYPES, EncoderConfig, LayerLoop, Params
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.read import load_pretrained

MANY_CUT = 0.05  # of the training texts, from where on it is told that they are cut


class Setup(NamedTuple):
    """All that stays the same over the phases of a run."""

    task: TaskData
    tokenizer: Any
    encoder: EncoderConfig
    pretrained: Params  # {"encoder", "head"}: where fine-tuning starts
    lengths: tuple[int, ...]
    max_length: int
    dtype: Any
    seed: int
    loop: LayerLoop  # of training steps

    @property
    def splits(self) -> dict[str, Tokenized]:
        """Examples by split."""
        return self.task.splits

    @property
    def head(self) -> Head:
        """What reads the last states."""
        return self.task.head

    @property
    def logits_shape(self) -> Any:
        """Shape of the logits of one example of full length."""
        return self.head.shape(self.encoder, self.max_length, self.task.num_classes)

    def rows(self, batch_size: int) -> int:
        """Rows of a batch of so many examples: an option of a question is one."""
        return batch_size * self.task.group

    def key(self, use: str):
        """A random key for one use, by its name.

        The generator is the device's own (rbg): dropout by the default one doubles the compilation time of a step.
        """
        return jax.random.fold_in(jax.random.key(self.seed, impl="rbg"), zlib.crc32(use.encode()))

    def eval_batches(self, split: str, batch_size: int):
        """All batches of a split, each made when it is asked for."""
        return eval_batches(self.splits[split], batch_size=self.rows(batch_size), lengths=self.lengths)


def run_buckets(config) -> tuple[int, ...] | None:
    """The lengths that kept tokens are gathered into at inference: `config.inference.buckets`, or None where the engine
    takes its own. Raises ValueError where they do not increase."""
    return check_buckets(config.inference.buckets) if config.inference.buckets else None


def engine_options(config) -> dict:
    """What a run's config says of the engine, as keywords of `make_engine`; runs of before have no such fields."""
    return {
        "buckets": run_buckets(config),
        "dtype": COMPUTE_DTYPES[config.compute_dtype],
        "driver": config.inference.get("driver", AUTO),
        "latency_table": config.inference.get("latency_table", ""),
    }


def prepare(config, *, tell: Callable[[str], None]) -> Setup:
    """Loads data, tokenizer and weights. `tell` receives one sentence for everything that a user should know.

    Raises ValueError or OSError where something that the user named is missing or does not fit.
    """
    directory = resolve_model(config.model)
    tokenizer = load_tokenizer(directory)
    task = load_task_data(config, directory)
    max_length = config.data.max_length or get_task(config.task).max_length
    loaded = load_pretrained(
        directory, jax.random.key(config.seed), class_names=task.class_names or None, num_positions=max_length,
        fresh_head=config.fresh_head, head=task.head,
    )  # fmt: skip
    for note in (*task.notes, *loaded.notes):
        tell(note)
    if len(tokenizer) > loaded.config.vocab_size:
        raise ValueError(
            f"the tokenizer of {config.model} knows {len(tokenizer)} tokens, its embedding table "
            f"{loaded.config.vocab_size}"
        )
    splits = task.splits
    if not is_reading(config) and (note := told_cuts(splits["train"].lengths, max_length)):
        tell(note)
    lengths = batch_lengths(config.data.lengths, max_length)
    for name, tokenized in splits.items():
        check_rows(tokenized.tokens.values, tokenized.segments.values, loaded.config, where=f"the split {name}")
        bucket_for(int(tokenized.lengths.max()), lengths)
    ladder(run_buckets(config) or DEFAULT_BUCKETS, max_length)
    return Setup(
        task=task,
        tokenizer=tokenizer,
        encoder=loaded.config,
        pretrained=loaded.params,
        lengths=lengths,
        max_length=max_length,
        dtype=COMPUTE_DTYPES[config.compute_dtype],
        seed=config.seed,
        loop=LayerLoop(loaded.config.num_layers if config.unroll_layers else 1, config.get("remat_layers", False)),
    )


def told_cuts(length_E: np.ndarray, max_length: int) -> str:
    """A sentence where many training texts fill all tokens, so that most of those were cut; empty where few do."""
    num_full = int(np.sum(length_E >= max_length))
    if num_full < MANY_CUT * len(length_E):
        return ""
    return (
        f"train: {num_full} of {len(length_E)} texts fill {max_length} tokens and may be cut; "
        "config.data.max_length sets another length"
    )


def data_digests(setup: Setup) -> dict[str, str]:
    """A hash of every split that a run trains or is chosen on, of its tokens, labels and class names."""
    digests = {}
    for name, tokenized in setup.splits.items():
        if not name.startswith("test"):
            digest = hashlib.sha256("\n".join(setup.task.class_names).encode())
            for rows in (tokenized.tokens, tokenized.segments):
                digest.update(rows.values)
                digest.update(rows.offsets)
            digest.update(tokenized.labels)
            for mark in tokenized.marks.values():
                digest.update(np.ascontiguousarray(mark))
            digests[name] = digest.hexdigest()
    return digests
