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


def new_field(name: str) -> str:
    """Return the present name of a dotted config field; names that are not old stay."""
    if name in FIELDS:
        return FIELDS[name]
    section, dot, field = name.partition(".")
    return FIELDS.get(section + dot, section + dot) + field


def explain_old_flag(arguments: Sequence[str]) -> str | None:
    """Return a line that names the present field of the first flag with an old name.

    Args:
      arguments: of the command line, as --config.adapler.warmup_share=0.1.

    Returns:
      None where no flag has an old name.
    """
    for argument in arguments:
        flag, prefix = argument.partition("=")[0], "--config."
        name = flag.removeprefix(prefix)
        if flag.startswith(prefix) and new_field(name) != name:
            return f"config.{name} is now config.{new_field(name)}"
    return None


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a nested config with the present names of its fields, and of its method.

    Args:
      config: as `config.to_dict()` of any release since 0.1; it is not changed.
    """
    upgraded: dict[str, Any] = {}
    for name, value in config.items():
        if not isinstance(value, dict):
            upgraded[new_field(name)] = value
            continue
        section = FIELDS.get(f"{name}.", f"{name}.").removesuffix(".")
        fields = {new_field(f"{name}.{field}").partition(".")[2]: v for field, v in value.items()}
        upgraded[section] = fields
    if isinstance(upgraded.get("method"), str):
        upgraded["method"] = METHODS.get(upgraded["method"], upgraded["method"])
    return upgraded


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
