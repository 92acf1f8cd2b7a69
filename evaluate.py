"""Evaluate a finished run, as `adapler evaluate` does.

python evaluate.py --workdir=W
"""

from adapler_jax.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("evaluate")
