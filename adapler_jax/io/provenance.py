"""Which code made a number, and where it ran."""

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


def commit_of_tree() -> str | None:
    """Commit of the checkout that runs, with "+" after it where files differ from it; None outside a checkout."""
    root = pathlib.Path(__file__).parents[2]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def command_line(words: Sequence[str]) -> str:
    """A command as one line that a shell takes apart into the same words; line breaks in them become blanks."""
    return " ".join(_quote(" ".join(word.splitlines())) for word in words)


def module_command(module: str, arguments: Sequence[str] | None = None) -> str:
    """The command that runs a module with these arguments, of None those of this process, as `command_line` has it."""
    return command_line(
        ["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)]
    )


def _quote(word: str) -> str:
    """Double quotes, as they read well around others, where the shell leaves all between them alone."""
    if shlex.quote(word) == word:
        return word
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def library_versions() -> dict[str, str]:
    """Versions of what compiles the programs and of what writes them: seconds of others say nothing."""
    return {
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "adapler_jax": adapler_jax.__version__,
    }


def device_name() -> str:
    """The first JAX device; for a CPU with its model name and the number of cores this process may use."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"cpu: {model}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
