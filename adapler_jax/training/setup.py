"""Load what every phase of a run uses: tokenized data, sizes of the encoder, first weights."""

import hashlib
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from adapler_jax.data.batching.batches import eval_batches
from adapler_jax.data.batching.lengths import batch_lengths, bucket_for
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.classification.tasks import get_task
from adapler_jax.data.tokenization import tokenizer_files
from adapler_jax.data.tokenization.tokenizers import check_embedding_rows, load_tokenizer
from adapler_jax.encoders import encoder_of
from adapler_jax.heads import Head
from adapler_jax.inference.compute_dtype import AUTO as AUTO_DTYPE
from adapler_jax.inference.compute_dtype import has_units
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes, check_buckets
from adapler_jax.inference.engine import AUTO
from adapler_jax.inference.ids import check_rows
from adapler_jax.io.messages import listed
from adapler_jax.metrics.classification import THRESHOLD, check_threshold
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.training.balance import BALANCED, check_balance, class_weights
from adapler_jax.training.task_data import load_task_data
from adapler_jax.training.task_record import TaskData
from adapler_jax.training.text_tasks import (
    check_has_source,
    has_classes,
    is_qa_task,
    splits_special,
)
from adapler_jax.types import COMPUTE_DTYPES, EncoderConfig, Params, ScanOptions
from adapler_jax.weights.config import read_json
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.pretrained import Pretrained, load_pretrained
from adapler_jax.weights.rules import is_pooled
from adapler_jax.weights.save import SECTION
from adapler_jax.weights.score_heads import check_query_segments
from adapler_jax.weights.sentence_modules import is_sentence_folder

MANY_CUT = 0.05  # fraction of the training texts; a note says it where more are cut


class RunContext(NamedTuple):
    """Values that all phases of a run share."""

    task: TaskData
    tokenizer: Any
    encoder: EncoderConfig
    pretrained: Params  # {"encoder", "head"}: where fine-tuning starts
    lengths: tuple[int, ...]
    max_length: int
    dtype: Any
    seed: int
    loop: ScanOptions  # of training steps
    class_weights: tuple[float, ...] = ()  # of an example's task loss, by its label; none: 1
    balanced_sampling: bool = False  # rows of smaller classes are repeated in training
    # Of the first model: a no-answer threshold, or one for each label of a text.
    tuned_threshold: float | list[float] | None = None
    # Of the first model, for the second class in the data's order.
    decision_threshold: float | None = None
    class_names: tuple[str, ...] = ()  # in saved models; empty for heads without classes
    # Of the fine-tuned model, where `encoder` is a student's: speedups are over it.
    full_encoder: EncoderConfig | None = None

    @property
    def splits(self) -> dict[str, Tokenized]:
        """Examples by split."""
        return self.task.splits

    @property
    def head(self) -> Head:
        """The task's head."""
        return self.task.head

    @property
    def logits_shape(self) -> Any:
        """Shape of the logits of one example of full length."""
        return self.head.logits_shape(self.encoder, self.max_length, self.task.num_classes)

    @property
    def num_train_examples(self) -> int:
        """Return the length of arrays that have an entry for every training example."""
        return int(self.splits["train"].example_ids.max()) + 1

    def num_rows(self, batch_size: int) -> int:
        """Return the rows of a batch of so many examples: each option of a question is one row."""
        return batch_size * self.task.group

    def key(self, use: str):
        """Return a random key for one use, by its name.

        The generator is the device's own (rbg): dropout by the default one doubles the compilation
        time of a step.
        """
        return jax.random.fold_in(jax.random.key(self.seed, impl="rbg"), zlib.crc32(use.encode()))

    def eval_batches(self, split: str, batch_size: int):
        """Return an iterator over all batches of a split."""
        return eval_batches(
            self.splits[split], batch_size=self.num_rows(batch_size), lengths=self.lengths
        )


def run_buckets(config: ConfigDict) -> tuple[int, ...] | None:
    """Return `config.inference.buckets`; None where the engine takes its own.

    Raises:
      ValueError: the buckets do not increase.
    """
    return check_buckets(config.inference.buckets) if config.inference.buckets else None


def operands(name: str) -> str:
    """Return the operands of products by their name in a config; "auto" is for this device."""
    if name != AUTO_DTYPE:
        return name
    return "bfloat16" if has_units() else "float32"


def engine_options(config: ConfigDict) -> dict[str, Any]:
    """Return the keywords of `make_engine` in a config. Older configs lack some fields."""
    return {
        "buckets": run_buckets(config),
        "dtype": COMPUTE_DTYPES[config.compute_dtype],
        "driver": config.inference.get("driver", AUTO),
        "autotune_table": config.inference.get("autotune_table", ""),
    }


def load_run_context(config: ConfigDict, *, log: Callable[[str], None]) -> RunContext:
    """Load data, tokenizer and weights.

    Args:
      config: of the run.
      log: receives a sentence for each note to the user.

    Raises:
      ValueError: a value of the user does not fit.
      OSError: a file of the user cannot be read.
    """
    check_balance(config, has_classes=has_classes(config))
    check_has_source(config)  # before the model is looked up, which may need a network
    directory = resolve_model(config.model)
    tokenizer = load_tokenizer(str(directory), log=log, split_special_tokens=splits_special(config))
    task = load_task_data(config, directory)
    for note in task.notes:
        log(note)
    side = task.extra.get("truncation_side")
    if side in tokenizer_files.SIDES:
        tokenizer.truncation_side = side  # which is saved with it, for transformers
    max_length = config.data.max_length or get_task(config.task).max_length
    loaded = load_start(config, directory, task, max_length, log=log)
    check_embedding_rows(tokenizer.backend_tokenizer, loaded.config.vocab_size, config.model)
    lengths = batch_lengths(config.data.bucket_lengths, max_length)
    check_data_fits(config, task, loaded.config, lengths, log=log)
    bucket_sizes(run_buckets(config) or DEFAULT_BUCKETS, max_length)
    num_unrolled = loaded.config.num_layers if config.unroll_layers else 1
    return RunContext(
        task=task,
        tokenizer=tokenizer,
        encoder=loaded.config,
        pretrained=loaded.params,
        lengths=lengths,
        max_length=max_length,
        dtype=COMPUTE_DTYPES[operands(config.compute_dtype)],
        seed=config.seed,
        loop=ScanOptions(num_unrolled, config.get("remat_layers", False)),
        class_weights=weights_of_classes(config, task),
        balanced_sampling=config.get("balanced_sampling", False),
        tuned_threshold=read_tuned_threshold(directory, loaded),
        decision_threshold=read_decision_threshold(directory, loaded, config, log=log),
        class_names=names_to_save(config, task, loaded),
    )


def load_start(
    config: ConfigDict,
    directory: pathlib.Path,
    task: TaskData,
    max_length: int,
    *,
    log: Callable[[str], None],
) -> Pretrained:
    """Return the weights that fine-tuning starts from.

    Raises:
      ValueError: the config takes the model as fine-tuned, and a part of its head is fresh; or it
        protects queries, and the model has no segments.
    """
    loaded = load_pretrained(
        directory,
        jax.random.key(config.seed),
        class_names=task.class_names or None,
        num_positions=max_length,
        reinit_head=config.reinit_head,
        head=task.head,
    )
    check_query_segments(task.head, loaded.config)
    # The error has the reason of the notes, so it comes first.
    check_finetuned(config, loaded.fresh, task.class_names)
    for note in loaded.notes:
        log(note)
    keeps_pooler = is_pooled(task.head, encoder_of(loaded.config)) and not any(
        "pooler" in part for part in loaded.fresh
    )
    if keeps_pooler and is_sentence_folder(directory):
        log(
            f"{config.model} is a sentence encoder, whose pooler may never have been trained; "
            "--config.reinit_head=True starts it afresh"
        )
    return loaded


def check_data_fits(
    config: ConfigDict,
    task: TaskData,
    encoder: EncoderConfig,
    lengths: tuple[int, ...],
    *,
    log: Callable[[str], None],
) -> None:
    """Raise ValueError where a split's token ids or lengths do not fit; log how many are cut."""
    if not is_qa_task(config) and (
        note := truncation_note(task.splits["train"].lengths, lengths[-1])
    ):
        log(note)
    for name, tokenized in task.splits.items():
        ids, segments = tokenized.tokens.values, tokenized.segments.values
        check_rows(ids, segments, encoder, where=f"the split {name}")
        bucket_for(int(tokenized.lengths.max()), lengths)


def names_to_save(config, task: TaskData, loaded: Pretrained) -> tuple[str, ...]:
    """Return the names of the classes in saved models.

    They are config.data.class_names, else the checkpoint's names where the data only numbers its
    classes, else the data's names.
    """
    return task.class_names if config.data.class_names else loaded.class_names or task.class_names


def read_decision_threshold(
    directory: pathlib.Path, loaded: Pretrained, config, *, log: Callable[[str], None]
) -> float | None:
    """Return the decision threshold of a model that is taken as fine-tuned; None where it has none.

    Args:
      directory: of the model.
      loaded: its classifier, in the order of the data.
      config: of the run.
      log: receives a sentence about the use of a threshold.

    Raises:
      ValueError: the threshold is not a number in (0, 1), or the model has other than two classes.
    """
    threshold = extra_of_start(directory).get(THRESHOLD)
    if threshold is None or loaded.class_rows is None:
        return None
    try:
        check_threshold(threshold, len(loaded.class_rows))
    except ValueError as error:
        raise ValueError(f"{directory / 'config.json'}: extra.{THRESHOLD}: {error}") from error
    again = (
        "choose one for a trained model with --choose_threshold and --save_threshold of `adapler "
        "evaluate`"
    )
    if config.finetune.num_epochs:
        log(
            f"the decision threshold {threshold} of {config.model} is left out, as training moves "
            f"it; {again}"
        )
        return None
    log(
        f"the decision threshold {threshold} is kept in the dense model; pruned models need their "
        f"own: {again}"
    )
    return threshold if loaded.class_rows == (0, 1) else 1.0 - threshold


def check_finetuned(config, fresh: Mapping[str, str], class_names: Sequence[str]) -> None:
    """Check that a model that is taken as fine-tuned has no fresh part in its head.

    Args:
      config: of the run.
      fresh: parts of the head that were started afresh and why, as in `Pretrained`.
      class_names: of the data; none where the task has no classes.

    Raises:
      ValueError: config.finetune.num_epochs is 0, and there is such a part.
    """
    if config.finetune.num_epochs or not fresh:
        return
    advice = "leave out ,finetuned (config.finetune.num_epochs=0)"
    if config.reinit_head:
        raise ValueError(
            "config.reinit_head=True gives a head without training, so there is nothing to take as "
            f"fine-tuned; {advice}, or leave out config.reinit_head"
        )
    wanted = f"a classifier of {listed(class_names)}" if class_names else "the head of this task"
    raise ValueError(
        f"{config.model} has no {' and '.join(fresh)} for this task "
        f"({listed(fresh.values(), separator='; ')}), so there is nothing to take as fine-tuned; "
        f"{advice}, or give a model with {wanted}"
    )


def weights_of_classes(config, task: TaskData) -> tuple[float, ...]:
    """Return the weights that `config.class_weight` sets; empty without."""
    if config.get("class_weight", "none") != BALANCED:
        return ()
    return class_weights(task.splits["train"].labels, task.num_classes)


def read_tuned_threshold(directory: pathlib.Path, loaded: Pretrained) -> float | list[float] | None:
    """Return the no-answer threshold of a saved model, or one for each label in the data's order.

    None where the model has none.
    """
    extra = extra_of_start(directory)
    threshold, by_label = extra.get("no_answer_threshold"), extra.get(THRESHOLDS)
    rows = loaded.class_rows
    if isinstance(by_label, list) and rows is not None and len(rows) == len(by_label):
        return [by_label[row] for row in rows]
    return threshold if isinstance(threshold, int | float) else None


def extra_of_start(directory: pathlib.Path) -> dict[str, Any]:
    """Return what a run added to the model that is started from; nothing where no run saved it."""
    found = read_json(directory / "config.json").get(SECTION)
    extra = found.get("extra") if isinstance(found, dict) else None
    return extra if isinstance(extra, dict) else {}


def truncation_note(length_E: np.ndarray, max_length: int) -> str:
    """Return a note where many training texts fill all tokens; empty where few do."""
    num_full = int(np.sum(length_E >= max_length))
    if num_full < MANY_CUT * len(length_E):
        return ""
    return (
        f"train: {num_full} of {len(length_E)} texts fill {max_length} tokens and may be cut; "
        "config.data.max_length sets another length"
    )


def data_digests(context: RunContext) -> dict[str, str]:
    """Return a hash of every split that trains or selects models: tokens, labels, class names."""
    digests = {}
    for name, tokenized in context.splits.items():
        if not name.startswith("test"):
            digest = hashlib.sha256("\n".join(context.task.class_names).encode())
            for rows in (tokenized.tokens, tokenized.segments):
                digest.update(np.ascontiguousarray(rows.values).data)
                digest.update(np.ascontiguousarray(rows.offsets).data)
            digest.update(np.ascontiguousarray(tokenized.labels).data)
            for slots in tokenized.head_slots.values():
                digest.update(np.ascontiguousarray(slots).data)
            digests[name] = digest.hexdigest()
    return digests
