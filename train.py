"""Train a model, as `adapler train` does.

    python train.py --config=configs/adapler.py:TASK --config.model=DIRECTORY --workdir=W

A second call with the same workdir continues the first.
"""

from adapler_jax.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("train")
