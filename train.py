"""Train a model: python train.py --config=configs/adapler.py:TASK --config.model=DIRECTORY --workdir=W

A second call with the same workdir goes on where the first stopped.
"""

import sys

from adapler_jax.io import process

if __name__ == "__main__":
    process.begin()  # before imports that take seconds

from absl import flags
from ml_collections import config_flags

from adapler_jax.cli.console import run_command
from adapler_jax.io.provenance import command_line
from adapler_jax.io.terminal import print_note
from adapler_jax.training.run import run_all

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "config file, as configs/adapler.py:sst2", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
flags.mark_flags_as_required(["config", "workdir"])


def main():
    """Trains, or goes on training."""
    run_all(
        _CONFIG.value,
        _WORKDIR.value,
        log=print_note,
        command=command_line(["python", *sys.argv]),
    )


if __name__ == "__main__":
    run_command(main)
