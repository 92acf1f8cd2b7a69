"""Describe the code, the packages, the command and the device of a measurement."""

import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata

import jax

import adapler_jax

SCRIPTS = ("train.py", "evaluate.py")  # of a checkout


def commit_of_tree() -> str | None:
    """Return the commit of the running checkout; None outside a checkout.

    A "+" follows the commit if tracked files differ from it.
    """
    root = pathlib.Path(__file__).parents[2]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def command_line(words: Sequence[str]) -> str:
    """Return a command as one line that a shell splits into the same words.

    Line breaks within words become blanks.
    """
    return " ".join(_quote(" ".join(word.splitlines())) for word in words)


def module_command(module: str, arguments: Sequence[str] | None = None) -> str:
    """Return the command that runs a module, as `command_line` writes it.

    Args:
      module: dotted name.
      arguments: of the command; None for the arguments of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    return command_line(["python", "-m", module, *arguments])


def subcommand_line(name: str, *arguments: str) -> str:
    """Return the command of a subcommand, in the form that started this process.

    The form is `python evaluate.py ...` for a script of a checkout, else `adapler evaluate ...`.

    Args:
      name: train or evaluate.
      arguments: of the subcommand.
    """
    is_script = pathlib.Path(sys.argv[0]).name in SCRIPTS
    return command_line(
        [*(["python", f"{name}.py"] if is_script else ["adapler", name]), *arguments]
    )


def _quote(word: str) -> str:
    """Quote a word for a shell, in double quotes if nothing in it is special to the shell."""
    if shlex.quote(word) == word:
        return word
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def library_versions() -> dict[str, str]:
    """Return the versions of the packages that decide how fast a compiled program is."""
    return {
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "adapler_jax": adapler_jax.__version__,
    }


def device_name() -> str:
    """Return the name of the first JAX device; for a CPU its model and the usable cores."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    return cpu_name()


def cpu_name() -> str:
    """Return the model of the CPU and the cores that this process may use."""
    return f"cpu: {_cpu_model()}, {_num_cores()} cores"


def _cpu_model() -> str:
    """Return the name of the processor, by Linux if it says."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _num_cores() -> int | None:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
