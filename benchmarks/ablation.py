r"""Measure each choice of AdapLeR's default recipe: train it with one choice changed at a time.

    python -m benchmarks.ablation --config=configs/adapler.py:rotten_tomatoes --config.model=DIR \
        --runs=runs/ablation --json=benchmarks/results/ablation-rotten_tomatoes.json

All variants share the fine-tuned model and its saliency, which are trained once under RUNS/default.
Scores are of the validation split: recipes are chosen there, and test data is not used.
Each variant is then calibrated to --speedup, so that scores compare at equal operations.
`adapted_by` says how: by scaling the thresholds, or by more training where that is better.
The JSON is written after every variant. Variants that it contains already are not trained again.
"""

import copy
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from adapler_jax.cli.console import run_command
from adapler_jax.io.atomic_directories import atomic_directory, copy_entries
from adapler_jax.io.records import print_table
from adapler_jax.training.methods.adapler import TRAINED_ON, calibration_name
from adapler_jax.training.phases import read_done
from adapler_jax.training.run import run_all
from adapler_jax.training.workdir import claim_workdir, flatten
from benchmarks.records import Record, training_commits

# A share of 1 is about 150 tokens, 25 in each of 6 layers: absolute lengths are the same choice in
# another unit. Without a target, the smaller coefficient takes its place.
VARIANTS = {
    "default": {},
    "slope-by-epochs": {"adapler.slope_schedule": "epochs"},
    "absolute-length": {
        "adapler.relative_length": False,
        "adapler.length_coef": 0.02,
        "adapler.length_target": 75.0,
    },
    "no-length-target": {"adapler.length_target": 0.0, "adapler.length_coef": 1.0},
    "no-threshold-spread": {"adapler.threshold_noise": 0.0},
    "pretrained-start": {"adapler.init_from": "pretrained"},
    "gradient-through-targets": {"adapler.stop_target_gradient": False},
    "no-distillation": {"adapler.distil_coef": 0.0},
    "one-learning-rate": {"adapler.predictor_learning_rate": 5e-5},
}
COLUMNS = (
    "variant",
    "score",
    "nll",
    "flops_speedup",
    "adapted_score",
    "adapted_nll",
    "adapted_flops_speedup",
    "adapted_by",
)
SHARED_PHASES = ("finetune", "saliency")


def is_trained_on(done: dict) -> bool:
    """Return whether the model that was trained on was kept, also by an older record."""
    return done.get("trained", done.get("kept") == TRAINED_ON)


def variant_config(config, name: str, speedup: float):
    """Return the config of a variant.

    Raises:
      ValueError: no variant has this name.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; there are {', '.join(VARIANTS)}")
    changed = copy.deepcopy(config)
    changed.adapt.target_speedups = (speedup,)
    changed.update_from_flattened_dict(VARIANTS[name])
    return changed


def share_phases(base: pathlib.Path, workdir: pathlib.Path, config) -> None:
    """Copy the finished phases that no variant changes into a new workdir."""
    claim_workdir(workdir, config.to_dict())
    for phase in SHARED_PHASES:
        if not (workdir / phase).exists():
            with atomic_directory(workdir / phase) as partial:
                copy_entries(base / phase, partial)


def run_variant(config, name: str, runs: pathlib.Path, speedup: float, log) -> dict:
    """Train one variant and return its row."""
    workdir, changed = runs / name, variant_config(config, name, speedup)
    if name != "default":
        run_all(
            variant_config(config, "default", speedup),
            runs / "default",
            log=log,
            last_phase=SHARED_PHASES[-1],
        )
        share_phases(runs / "default", workdir, changed)
    run_all(changed, workdir, log=log)
    dense = read_done(workdir / "finetune")["validation"]
    trained = read_done(workdir / "adapler")["validation"]
    adapt = calibration_name(speedup)
    done = read_done(workdir / adapt)
    adapted = done["validation"]
    return {
        "task": changed.task,
        "seed": changed.seed,
        "variant": name,
        "split": "validation",
        "dense_score": dense["score"],
        "dense_nll": dense["nll"],
        "score": trained["score"],
        "nll": trained["nll"],
        "flops_speedup": trained["flops_speedup"],
        "kept_tokens": trained["kept_tokens"],
        "adapted_score": adapted["score"],
        "adapted_nll": adapted["nll"],
        "adapted_flops_speedup": adapted["flops_speedup"],
        "adapted_by": "training" if is_trained_on(done) else "scaling",
        "training_commits": training_commits(workdir, adapt),
    }


def main(options):
    """Run the variants, the default first: the others start from its fine-tuned model."""

    def log(line):
        print(line, file=sys.stderr)

    runs = pathlib.Path(options.runs)
    record = Record(
        options.json,
        flatten(options.config.to_dict()) | {"speedup": options.speedup},
        module="benchmarks.ablation",
    )
    names = tuple(dict.fromkeys(["default", *(options.only or VARIANTS)]))
    for name in names:
        # Raises on an unknown variant before the first trains.
        variant_config(options.config, name, options.speedup)
    for name in names:
        if all(row["variant"] != name for row in record.rows):
            record.add([run_variant(options.config, name, runs, options.speedup, log)])
    print_table(record.rows, columns=COLUMNS)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "config of the default run", lock_config=True)
    flags.DEFINE_string("runs", None, "folder of the workdirs")
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.DEFINE_float(
        "speedup", 1.7, "FLOPs speedup at which variants are compared", lower_bound=1.0
    )
    flags.DEFINE_list("only", [], "names of variants; empty for all")
    flags.mark_flags_as_required(["config", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
