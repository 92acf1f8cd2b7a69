"""The `adapler` command: choose a subcommand, and import it only then."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import adapler_jax
from adapler_jax.io import process
from adapler_jax.io.extras import explain_missing_module
from adapler_jax.io.terminal import one_line

PROGRAM = "adapler"
USER_ERROR = 2  # exit code


class Subcommand(NamedTuple):
    """Hold what is known of a subcommand before its import."""

    summary: str
    resumes: bool  # if a second call continues the first


SUBCOMMANDS = {
    "train": Subcommand("train a model, or continue its training", resumes=True),
    "evaluate": Subcommand(
        "print the scores, speedups and seconds of a finished run", resumes=True
    ),
    "predict": Subcommand("classify the texts of a file, or answer its questions", resumes=False),
    "compress": Subcommand("make a fine-tuned model faster, with text and no labels", resumes=True),
    "calibrate": Subcommand("calibrate a model for any speed, without labels", resumes=True),
    "report": Subcommand("write the report of a run as one HTML page", resumes=True),
    "latency": Subcommand("measure which driver is fastest on this device", resumes=False),
    "export": Subcommand("write a model as ONNX, or compile it ahead of time", resumes=False),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `adapler SUBCOMMAND --name=value ...`, and end the process with its exit code.

    Args:
      arguments: the words after the program's name; None for the words of this process.
    """
    first, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    if first in ("", "help", "-h", "--help"):
        print(help_text())
    elif first == "--version":
        print(f"{PROGRAM} {adapler_jax.__version__}")
    elif first in SUBCOMMANDS:
        sys.argv = [f"{PROGRAM} {first}", *rest[:-1]]
        run_subcommand(first)
    else:
        _fail(_explain_unknown(first))


def run_subcommand(name: str) -> None:
    """Import a subcommand and run it with the words of `sys.argv`, which starts with its name."""
    resumes = SUBCOMMANDS[name].resumes
    process.begin(resumes=resumes)  # before imports that take seconds
    try:
        module = importlib.import_module(f"adapler_jax.cli.{name}")
    except ImportError as error:
        line = explain_missing_module(error)
        if line is None:
            raise
        _fail(line)
    module.run(resumes=resumes)


def help_text() -> str:
    """Return the list of subcommands."""
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in SUBCOMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} SUBCOMMAND --name=value ...",
            "",
            *lines,
            "",
            f"{PROGRAM} SUBCOMMAND --help lists the flags of one; {PROGRAM} --version",
        ]
    )


def _explain_unknown(name: str) -> str:
    """Return a line on a first word that is no subcommand."""
    near = difflib.get_close_matches(name, SUBCOMMANDS)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown subcommand {name!r}; {hint}there are {', '.join(SUBCOMMANDS)}"


def _fail(line: str) -> NoReturn:
    """End the process with one line and the exit code of a user's mistake."""
    print(f"error: {one_line(line)}", file=sys.stderr)
    sys.exit(USER_ERROR)
