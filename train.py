"""Train a model: python train.py --config=configs/adapler.py:TASK --config.model=DIRECTORY --workdir=W

A second call with the same workdir goes on where the first stopped.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from adapler_jax.report.console import exit_on_user_error
from adapler_jax.training.run import run_all

_CONFIG = config_flags.DEFINE_config_file("config", None, "config file, as configs/adapler.py:sst2", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}; flags are written --name=value")
    logging.set_verbosity(logging.WARNING)
    with exit_on_user_error():
        run_all(_CONFIG.value, _WORKDIR.value, tell=lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    app.run(main)
