"""The fields that all runs share, each with its unit. The file of a method adds the sections of its phases."""

import difflib

import ml_collections

from adapler_jax.presets import old_names, qa
from adapler_jax.presets.sections import finetune_section


def base_config() -> ml_collections.ConfigDict:
    """Fine-tuning of plain BERT: the first phase of every method."""
    return ml_collections.ConfigDict(
        {
            "method": "finetune",  # plain BERT, the first phase alone; or adapler, powerbert, trbert, distil
            "model": "bert-base-uncased",  # local directory or hub name of a BERT in PyTorch or Flax form
            "reinit_head": False,  # start the pooler afresh too, where the checkpoint's was never trained
            "task": "sst2",  # a task of adapler_jax/data/classification/tasks.py or reading.py
            "seed": 0,  # of fresh weights, data order and dropout
            "compute_dtype": "float32",  # or bfloat16: operands of the encoder's products; results stay float32
            "class_weight": "none",  # or balanced: an example's loss times examples / (classes * those of its class)
            "balanced_sampling": False,  # rows of smaller classes are repeated until all are as large as the largest
            "remat_layers": False,  # training steps compute layers twice, never unrolled: for texts that do not fit
            "unroll_layers": True,  # in training steps: faster steps, longer compilation; False for short runs
            "data": {
                "source": "",  # replaces the task's source: tfds:NAME, file:PATH, package:NAME/PART, hf:NAME
                "sources": {},  # {"test": "file:PATH"}: a source for one split
                "columns": {},  # {"text": ..., "text_pair": ..., "label": ...}: column names by role
                "class_names": (),  # in the order of the label numbers; empty: the task's
                # accuracy, f1 (of the second of two classes), macro_f1, matthews, and of classes that are numbers
                # pearson and spearman: what models are chosen and reported by; empty: the task's
                "metric": "",
                "split_fractions": {},  # {"validation": share or count}: cut from train where the source has no such split
                "split_seed": 0,  # of carving and drawing; keep it while `seed` varies
                "num_train_examples": 0,  # train on a subset of at most this size; 0: all
                "max_length": 0,  # token slots, [CLS] and [SEP] included; 0: the task's
                "truncation_side": "",  # where longer texts are cut: right, left, middle; empty: as the checkpoint says
                "split_special_tokens": False,  # read [SEP] or <s> written in a text as text, not as a special token
                "bucket_lengths": (),  # padded lengths of batches, one compilation each; empty: about seven up to max_length
                "encoding": "",  # of text files, as latin-1 or utf-16-le; empty: by their byte order mark, else UTF-8
                "delimiter": "",  # between the columns of CSV and TSV files, as ";" or "tab"; empty: it is found
                "skip_incomplete": False,  # leave out rows whose text or label is missing or empty, and count them
                "cache_dir": "",  # keeps tokenized texts; empty: the user's cache directory; none: no cache
            },
            "finetune": finetune_section(),
            "inference": {
                "driver": "auto",  # the faster of bucketed and packed, as measured; or either, or masked: the oracle
                "buckets": (),  # increasing lengths that kept tokens are gathered into; empty: the library's ladder
                "autotune_table": "",  # path of a device's measured table; empty: this device's, or the library's own
                "compilation_cache": "",  # keeps compiled programs; empty: the user's cache directory; none: no cache
            },
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
    """The same run in about a minute on a CPU: few examples, one epoch a phase."""
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
        config.adapler.checkpoint_selection = "last"  # one epoch is no choice
    return config


def finetuned(config: ml_collections.ConfigDict) -> None:
    """Start from a model that is fine-tuned on the task already: it is validated and kept."""
    config.finetune.num_epochs = 0


VARIANTS = {
    "finetuned": finetuned,
    "debug": shrink,
}  # of every method that goes on from a fine-tuned model


def task_config(task: str, preset: dict, **sections) -> ml_collections.ConfigDict:
    """The base config with the sections of a method and what a task's preset has of lengths, batch sizes and fields."""
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
    """The message for a name that is not known: the nearest ones, then all."""
    near = difflib.get_close_matches(name, known)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r};{hint} there are {', '.join(known)}"


def split_argument(argument: str, tasks) -> tuple[str, list[str]]:
    """Splits "task,variant,..." into (task, variants). Raises ValueError on a task that is not known."""
    task, *variants = (argument or "").split(",")
    if task not in tasks:
        raise ValueError(unknown("task", task, tasks))
    return task, variants


def apply_variants(config: ml_collections.ConfigDict, names: list[str], known: dict) -> None:
    """Applies the named changes in order, `finetuned` last. Raises ValueError on a name that is not known."""
    for name in sorted(names, key=lambda name: name == "finetuned"):
        if name in old_names.VARIANTS:
            raise ValueError(f"variant {name!r} is now {old_names.VARIANTS[name]!r}")
        if name not in known:
            raise ValueError(unknown("variant", name, known))
        known[name](config)
