"""The one table of config fields and saved options that had other names before release 0.2.

Saved models and workdirs of release 0.1 are read through it. It goes with release 1.0.
"""

from collections.abc import Sequence
from typing import Any

# Sections and fields of a config, dotted. A name that ends in "." is a section.
FIELDS = {
    "adapler.bound_cls_ratio": "adapler.clip_cls_ratio",
    "adapler.choose": "adapler.checkpoint_selection",
    "adapler.constant_targets": "adapler.stop_target_gradient",
    "adapler.contribution_coef": "adapler.kl_coef",
    "adapler.num_best": "adapler.num_checkpoints",
    "adapler.slope_first": "adapler.slope_start",
    "adapler.slope_last": "adapler.slope_end",
    "adapler.start": "adapler.init_from",
    "adapler.threshold_spread": "adapler.threshold_noise",
    "adapler.warmup_share": "adapler.warmup_ratio",
    "adapt.speedups": "adapt.target_speedups",
    "data.carve": "data.split_fractions",
    "data.lengths": "data.bucket_lengths",
    "data.split_sources": "data.sources",
    "distil.": "distill.",
    "distil.num_best": "distill.num_checkpoints",
    "distil.warmup_share": "distill.warmup_ratio",
    "finetune.num_best": "finetune.num_checkpoints",
    "finetune.warmup_share": "finetune.warmup_ratio",
    "fresh_head": "reinit_head",
    "inference.latency_table": "inference.autotune_table",
    "powerbert.mass_coef": "powerbert.rank_l1_coef",
    "powerbert.retention_of": "powerbert.retention_from",
    "powerbert.warmup_share": "powerbert.warmup_ratio",
    "reading.": "qa.",
    "reading.max_rows": "qa.max_packed_questions",
    "reading.num_best": "qa.n_best_size",
    "reading.per_option": "qa.score_options_independently",
    "reading.stride": "qa.doc_stride",
    "saliency.num_epochs": "saliency.num_checkpoints",
    "trbert.by_padded_length": "trbert.normalize_by_padded_length",
    "trbert.guided_share": "trbert.imitation_ratio",
    "trbert.samples_at_once": "trbert.sample_batch_size",
    "trbert.warmup_share": "trbert.warmup_ratio",
}
# Values of config.method, which are names of phase directories too.
METHODS = {"distil": "distill"}
# Keywords of a pruner's factory in a saved model.
PRUNER_OPTIONS = {
    "bound_cls_ratio": "clip_cls_ratio",
    "constant_targets": "stop_target_gradient",
    "keeps_padding": "counts_padding",
}
# Variants of configs, as in configs/adapler.py:sst2,paper.
VARIANTS = {"faithful": "paper"}
CONFIG_FLAGS = ("--config", "-config")


def new_field(name: str) -> str:
    """Return the present name of a dotted config field; names that are not old stay."""
    if name in FIELDS:
        return FIELDS[name]
    section, dot, field = name.partition(".")
    return FIELDS.get(section + dot, section + dot) + field


def upgrade_arguments(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line with present names, and a note for each old one.

    Args:
      words: as --config.adapler.warmup_share=0.1, or --config=configs/distil.py:sst2.
    """
    upgraded: list[str] = []
    notes: list[str] = []
    for typed in words:
        word = typed
        flag, equals, value = word.partition("=")
        dashes = flag[: len(flag) - len(flag.lstrip("-"))]
        no, dot, name = flag[len(dashes) :].partition("config.")
        new = new_field(name)
        if dashes and dot and no in ("", "no") and new != name:
            notes.append(f"config.{name} is now config.{new}")
            word = f"{dashes}{no}config.{new}{equals}{value}"
        elif flag in CONFIG_FLAGS and equals:
            word = f"{flag}={_note_preset(value, notes)}"
        elif upgraded and upgraded[-1] in CONFIG_FLAGS:
            word = _note_preset(word, notes)
        upgraded.append(word)
    return upgraded, notes


def _note_preset(name: str, notes: list[str]) -> str:
    """Return the present name of a preset; add a note if it is another."""
    new = upgrade_preset(name)
    if new != name:
        notes.append(f"{name} is now {new}")
    return new


def upgrade_preset(name: str) -> str:
    """Return the present name of a preset or config file with its variants."""
    path, colon, argument = name.partition(":")
    folder, slash, file = path.rpartition("/")
    stem, point, ending = file.partition(".")
    variants = ",".join(VARIANTS.get(word, word) for word in argument.split(","))
    return f"{folder}{slash}{METHODS.get(stem, stem)}{point}{ending}{colon}{variants}"


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a nested config with the present names of its fields, and of its method.

    The value of an old name takes the place of the value of its present name.

    Args:
      config: as `config.to_dict()` of any release since 0.1; it is not changed.
    """
    old: list[tuple[str, Any]] = []
    upgraded: dict[str, Any] = {}
    for name, value in _fields(config):
        if new_field(name) == name:
            _put(upgraded, name, value)
        else:
            old.append((new_field(name), value))
    for name, value in old:
        _put(upgraded, name, value)
    if isinstance(upgraded.get("method"), str):
        upgraded["method"] = METHODS.get(upgraded["method"], upgraded["method"])
    return upgraded


def old_fields(config: dict[str, Any]) -> dict[str, str]:
    """Return the old names among a nested config's fields, with their present names."""
    return {name: new_field(name) for name, _ in _fields(config) if new_field(name) != name}


def _fields(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the dotted names and values of a config's fields; an empty section is a value."""
    fields: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, dict) and value:
            fields += [(f"{name}.{field}", content) for field, content in value.items()]
        else:
            fields.append((name, value))
    return fields


def _put(config: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted field of a nested config."""
    section, dot, field = name.rpartition(".")
    (config.setdefault(section, {}) if dot else config)[field] = value


def upgrade_section(section: dict[str, Any]) -> dict[str, Any]:
    """Return the section of a saved model's config.json with the present names of its options."""
    upgraded = dict(section)
    if isinstance(options := section.get("pruner_options"), dict):
        names = {name: PRUNER_OPTIONS.get(name, name) for name in options}
        upgraded["pruner_options"] = {names[name]: value for name, value in options.items()}
    extra = section.get("extra")
    if isinstance(extra, dict) and "reading" in extra and "qa" not in extra:
        fields = extra["reading"]
        if isinstance(fields, dict):
            fields = {
                new_field(f"reading.{name}").partition(".")[2]: value
                for name, value in fields.items()
            }
        others = {name: value for name, value in extra.items() if name != "reading"}
        upgraded["extra"] = others | {"qa": fields}
    return upgraded
