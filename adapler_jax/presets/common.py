"""Define the config fields that all runs share, each with its unit.

A method's file adds the sections of its phases.
"""

import difflib

import ml_collections

from adapler_jax.presets import old_names, qa
from adapler_jax.presets.sections import finetune_section


def data_section() -> dict:
    """Return the fields of the data: sources, columns, splits, lengths."""
    return {
        # Replaces the task's source: tfds:NAME, file:PATH, package:NAME/PART, hf:NAME.
        "source": "",
        "sources": {},  # {"test": "file:PATH"}: a source for one split
        # {"text": ..., "text_pair": ..., "label": ...}: column names by role; of several labels
        # or numbers a text, "label" is one column of lists or a tuple with a column for each. Of
        # numbers also "positive" and "negative": columns of documents with the numbers 1 and 0.
        "columns": {},
        # In the order of the label numbers, or of several numbers a text; empty: the task's.
        "class_names": (),
        # Selects and reports models: accuracy, f1 (of the second of two classes), macro_f1,
        # matthews; for classes that are numbers, and for numbers, pearson and spearman; for scores
        # of documents ndcg@10, mrr@10, map, recall@10, recall@100, kendall_tau; for several labels
        # a text micro_f1, macro_f1, exact_match. Empty: the task's.
        "metric": "",
        # Between the names of a text with several labels, where it is no list.
        "label_separator": ",",
        # Of numbers: sigmoid where they are from 0 to 1, or identity; empty: the model's, else
        # identity.
        "activation": "",
        "pooling": "",  # of vectors: mean or cls; empty: the model's own, else mean
        "protects_query": False,  # of numbers: no token of a pair's first text is dropped
        # Of numbers of pairs: the loss compares so many documents of a query; 0: each pair alone.
        "list_size": 0,
        # {"validation": fraction or count}: split from train where the source has none.
        "split_fractions": {},
        "split_seed": 0,  # of splitting and drawing; keep it while `seed` varies
        "num_train_examples": 0,  # train on a subset of at most this size; 0: all
        "max_length": 0,  # token slots, [CLS] and [SEP] included; 0: the task's
        # Longer texts are cut right, left or in the middle; empty: the checkpoint's side.
        "truncation_side": "",
        # Treat [SEP] or <s> written in a text as text, not as a special token.
        "split_special_tokens": False,
        # Padded lengths of batches, one compilation each; empty: about seven.
        "bucket_lengths": (),
        # Of text files, as latin-1 or utf-16-le; empty: the byte order mark, else UTF-8.
        "encoding": "",
        # Between the columns of CSV and TSV files, as ";" or "tab"; empty: detected.
        "delimiter": "",
        "skip_incomplete": False,  # skip and count rows without a text or label
        # Keeps tokenized texts; empty: the user's cache directory; none: no cache.
        "cache_dir": "",
    }


def inference_section() -> dict:
    """Return the fields of the engine that validates and evaluates."""
    return {
        # The faster of bucketed and packed, as measured; or a driver's name, or masked,
        # the reference.
        "driver": "auto",
        # Increasing lengths that kept tokens are gathered into; empty: the default.
        "buckets": (),
        # Path of a device's measured table; empty: this device's, or the default.
        "autotune_table": "",
        # Keeps compiled programs; empty: the user's cache directory; none: no cache.
        "compilation_cache": "",
    }


def base_config() -> ml_collections.ConfigDict:
    """Return the config of plain BERT's fine-tuning: the first phase of every method."""
    return ml_collections.ConfigDict(
        {
            # finetune is plain BERT, the first phase alone; or a method of METHODS.
            "method": "finetune",
            "model": "bert-base-uncased",  # directory or hub name, in PyTorch or Flax form
            "reinit_head": False,  # draw a new pooler too, where the checkpoint's was never trained
            "task": "sst2",  # a name of adapler_jax/presets/tasks.py
            "seed": 0,  # of fresh weights, data order and dropout
            # Operands of the encoder's products, or bfloat16, or auto: bfloat16 where the device of
            # a workdir's first call has units for it. Results stay float32.
            "compute_dtype": "float32",
            # Or balanced: an example's loss times examples / (classes * examples of its class).
            "class_weight": "none",
            "balanced_sampling": False,  # repeat rows of smaller classes up to the largest class
            # Training steps compute layers twice and never unroll: for texts that do not fit.
            "remat_layers": False,
            # In training steps: faster steps, longer compilation; False for short runs.
            "unroll_layers": True,
            "data": data_section(),
            "finetune": finetune_section(),
            "inference": inference_section(),
        }
    )


def training_sections(config: ml_collections.ConfigDict) -> list[str]:
    """Return the names of the sections that train: those with a rate and a batch size."""
    sections = [
        name for name, value in config.items() if isinstance(value, ml_collections.ConfigDict)
    ]
    needed = {"learning_rate", "batch_size"}
    return [name for name in sections if needed.issubset(config[name].keys())]


def shrink(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Shrink a run to about a minute on a CPU: few examples, one epoch for each phase."""
    config.data.num_train_examples = 64
    config.data.max_length = 32
    config.data.bucket_lengths = (32,)
    config.unroll_layers = False
    for name in training_sections(config):
        section = config[name]
        section.batch_size = 16
        for field in section:
            if field.endswith("num_epochs"):
                section[field] = min(1, section[field])
    if "qa" in config:
        qa.shrink(config)
    if "adapler" in config:
        config.adapler.checkpoint_selection = "last"  # there is one epoch only
    return config


def finetuned(config: ml_collections.ConfigDict) -> None:
    """Start from a model that is fine-tuned on the task already: validate it and keep it."""
    config.finetune.num_epochs = 0


# Of every method that continues from a fine-tuned model.
VARIANTS = {"finetuned": finetuned, "debug": shrink}


def task_config(task: str, preset: dict, **sections) -> ml_collections.ConfigDict:
    """Return the base config with a method's sections and a task's preset.

    Args:
      preset: of the task: `max_length`, `batch_size`, and fields by section.
      sections: of the method, by name.
    """
    config = base_config()
    config.task = task
    config.data.max_length = preset["max_length"]
    if task in qa.TASKS:
        sections["qa"] = qa.qa_section()
    for name, section in {"finetune": config.finetune, **sections}.items():
        config[name] = ml_collections.ConfigDict(section)
        config[name].update(preset.get(name, {}))
    for name in training_sections(config):
        config[name].batch_size = preset.get("batch_size", 32)
    return config


def unknown(kind: str, name: str, known) -> str:
    """Return the message for an unknown name: the nearest names, then all names."""
    near = difflib.get_close_matches(name, known)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r};{hint} there are {', '.join(known)}"


def split_argument(argument: str, tasks) -> tuple[str, list[str]]:
    """Split "task,variant,..." into the task and its variants.

    Raises:
      ValueError: the task is unknown.
    """
    task, *variants = (argument or "").split(",")
    if task not in tasks:
        raise ValueError(unknown("task", task, tasks))
    return task, variants


def apply_variants(config: ml_collections.ConfigDict, names: list[str], known: dict) -> None:
    """Apply the named changes in order, `finetuned` last.

    Raises:
      ValueError: a name is unknown.
    """
    for name in sorted(names, key=lambda name: name == "finetuned"):
        if name in old_names.VARIANTS:
            raise ValueError(f"variant {name!r} is now {old_names.VARIANTS[name]!r}")
        if name not in known:
            raise ValueError(unknown("variant", name, known))
        known[name](config)
