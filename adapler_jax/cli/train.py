"""Train a model.

    adapler train --config=adapler:TASK --config.model=DIRECTORY --workdir=W

A second call with the same workdir continues the first. --config takes the name of a preset or a
config file, and --config.SECTION.FIELD=VALUE changes one of its fields.
"""

from absl import flags
from ml_collections import config_flags

from adapler_jax.cli.console import run_command, typed_command
from adapler_jax.io.provenance import command_line
from adapler_jax.io.terminal import print_note
from adapler_jax.training.run import run_all

FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "preset or config file, as adapler:sst2 or configs/adapler.py:sst2",
    flag_values=FLAGS,
    lock_config=True,
)
flags.mark_flag_as_required("config", flag_values=FLAGS)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "directory of the run", required=True, flag_values=FLAGS
)


def main() -> None:
    """Train a model, or continue its training."""
    run_all(
        _CONFIG.value,
        _WORKDIR.value,
        log=print_note,
        command=command_line(typed_command()),
    )


def run(*, resumes: bool) -> None:
    """Parse the command line and train."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
