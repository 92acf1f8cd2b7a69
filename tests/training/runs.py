"""Small runs of every method; `copied_run` makes each once for all test processes."""

import json
import pathlib
import types
from typing import Any, NamedTuple

from filelock import FileLock

from adapler_jax.training import phases
from adapler_jax.training.compress_steps import CompressOptions
from adapler_jax.weights.save import load_model
from configs import adapler, distill, ltp, powerbert, trbert
from tests.tiny import assert_trees_equal


class Run(NamedTuple):
    """The phases of a run, and its config as `make_config` builds it."""

    module: types.ModuleType
    phases: tuple[str, ...]
    changes: dict[str, Any]


RUNS = {
    "adapler": Run(
        adapler,
        ("finetune", "saliency", "adapler", "adapt-1.2x"),
        {
            "finetune__num_epochs": 2,
            "adapler__num_epochs": 2,
            "adapt__target_speedups": (1.2,),
            "adapt__train": "always",
            "adapler__length_coef": 3.0,
            "finetune__checkpoint_every_steps": 4,
            "adapler__checkpoint_every_steps": 4,
        },
    ),
    # Its fine-tuned model has learned the task.
    "learned": Run(
        adapler,
        ("finetune", "saliency", "adapler", "adapt-1.2x"),
        {
            "adapt__target_speedups": (1.2,),
            "finetune__num_epochs": 20,
            "inference__buckets": (8, 16),
        },
    ),
    "distill": Run(
        distill,
        ("finetune", "teacher", "distill"),
        {"finetune__num_epochs": 2, "distill__num_epochs": 2},
    ),
    "student": Run(
        adapler,
        ("finetune", "saliency", "teacher", "distill", "adapler", "adapt-2x"),
        {
            "variant": "student",
            "finetune__num_epochs": 2,
            "adapt__target_speedups": (2.0,),
            "adapt__train": "always",
        },
    ),
    "ltp": Run(
        ltp,
        ("finetune", "teacher", "soft", "ltp"),
        {
            "ltp__num_epochs": 2,
            "ltp__final_threshold": 0.2,
            "ltp__length_coef": 1.0,
            "ltp__theta_learning_rate": 1e-2,
            "ltp__temperature": 1e-2,
            "ltp__checkpoint_every_steps": 4,
        },
    ),
    "powerbert": Run(
        powerbert,
        ("finetune", "teacher", "search", "powerbert"),
        {
            "finetune__num_epochs": 2,
            "powerbert__num_epochs": 2,
            "powerbert__rank_l1_coef": 0.05,
            "powerbert__rank_learning_rate": 0.1,
            "powerbert__checkpoint_every_steps": 4,
        },
    ),
    "trbert": Run(
        trbert,
        ("finetune", "scores", "init", "policy", "trbert"),
        {
            "finetune__num_epochs": 2,
            "trbert__policy_num_epochs": 2,
            "trbert__init_num_epochs": 1,
            "trbert__num_samples": 4,
            "trbert__checkpoint_every_steps": 4,
            "trbert__policy_length_coef": 2.0,
        },
    ),
}


# A compression of a minute, which tests of every kind of model start from.
SMALL = CompressOptions(
    speedup=1.2,
    max_length=16,
    changes={
        "adapler.num_epochs": 1,
        "adapler.batch_size": 16,
        "data.bucket_lengths": (16,),
        "data.cache_dir": "none",
    },
)
# Fields of a run on files of `write_splits`.
OWN_FILES = {
    "data__class_names": (),
    "data__max_length": 16,
    "finetune__num_epochs": 4,
    "adapt__target_speedups": (1.3,),
}


def write_splits(root, make_rows):
    """Write train, validation and test rows as JSON lines, and return their source.

    Args:
      root: folder of the files.
      make_rows: seed -> rows.
    """
    for seed, split in enumerate(("train", "validation", "test")):
        lines = (f"{json.dumps(row)}\n" for row in make_rows(seed))
        (root / f"{split}.jsonl").write_text("".join(lines))
    return f"file:{root}"


def silent(_):
    """Log nothing."""


def read_all(workdir, method):
    """Return the records of a run's phases by their names."""
    return {name: phases.read_done(workdir / name) for name in RUNS[method].phases}


def assert_same_models(left, right, *names):
    """The saved models of two workdirs are equal bit by bit."""
    for name in names:
        assert_trees_equal(*(load_model(root / name / "model").params for root in (left, right)))


def make_once(directory, make):
    """Make a directory in the first test process that needs it; return it."""
    made = pathlib.Path(f"{directory}.made")
    with FileLock(f"{directory}.lock"):
        if not made.exists():
            make(directory)
            made.touch()
    return directory
