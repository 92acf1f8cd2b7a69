"""Guard the directory of a run: one writer, one config, and files that are whole or absent."""

import contextlib
import json
import pathlib
import re
import time
from collections.abc import Collection, Iterator
from typing import Any

import filelock

from adapler_jax.io.atomic_files import SUFFIX, check_file, replace_text
from adapler_jax.io.locks import locked
from adapler_jax.presets import old_names

CONFIG_FILE = "run.json"
DONE = "done.json"  # of a phase
LOCK_FILE = ".lock"
DATA_FILE = "data.json"
SECONDS_FILE = "seconds.json"
COMMANDS_FILE = "commands.txt"
DO_AGAIN = "remove it and give the training command again"
TRAIN_PHASE = f"{DO_AGAIN}; it trains this phase again from its start"  # of a closing record
NEW_DATA = f"{DO_AGAIN}; it costs no training, and the data of that call count as the run's"
RESTORE_RUN = "restore it or give another --workdir, which trains all phases again"
MAX_LISTED = 8  # different fields that an error lists
PARTIAL_FILES = ".*.partial"  # incomplete files of a killed call
# Fields that change nothing in what is there already: they may differ between calls on one workdir.
FREE_FIELDS = (
    "adapt.max_drop",
    "adapt.target_speedups",
    "adapt.train",
    "data.cache_dir",
    "inference.buckets",
    "inference.compilation_cache",
    "inference.driver",
    "inference.autotune_table",
    "ltp.target_speedups",
    "powerbert.target_speedups",
    "trbert.target_speedups",
    "attention.target_speedups",
    "vocabulary.target_speedups",
)
# A number as f"{speedup:g}" writes it; the name of the section that has the target is before it.
TARGET_PHASE = re.compile(r"([a-z]+)-(\d+(?:\.\d+)?(?:e[+-]?\d+)?)x")
ADAPT = "adapt"  # section of AdapLeR's targets; other methods have them in their own sections
# Ends the names of fields of sections that change no number either.
FREE_ENDING = ".checkpoint_every_minutes"
# Epochs that a finished phase can be given more of.
GROWING_FIELDS = ("finetune.num_epochs", "adapler.num_epochs", "distill.num_epochs")
# Values of fields that a run of an earlier release does not have: with these it does what it did.
NEUTRAL: tuple[Any, ...] = ("", "none", 0, False, None, [], {})
# Others by field: the value with which it does the same.
NEUTRAL_OF_FIELDS = {"data.label_separator": ","}  # read by tasks of later releases alone


@contextlib.contextmanager
def only_process(
    workdir: pathlib.Path, *, action: str = "trains", flag: str = "--workdir"
) -> Iterator[None]:
    """Hold the workdir during the block.

    Args:
      workdir: that exists.
      action: what a process does there, in words.
      flag: that names the workdir.

    Raises:
      ValueError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(workdir / LOCK_FILE, waits=False))
        except filelock.Timeout:
            raise ValueError(
                f"{workdir}: another process {action} there; wait for it or give another {flag}"
            ) from None
        yield


def read_object(path: pathlib.Path, advice: str) -> dict:
    """Return an object that a run wrote as JSON.

    Raises:
      ValueError: the file is damaged; the message ends with the advice.
    """
    check_file(path, advice)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged (it holds no JSON object); {advice}")
    return found


def read_seconds(workdir: pathlib.Path) -> dict[str, float]:
    """Return seconds by phase; empty where none was timed.

    Raises:
      ValueError: the file is damaged.
    """
    path = workdir / SECONDS_FILE
    seconds = read_object(path, "remove it; only the seconds are lost") if path.exists() else {}
    wrong = [name for name, value in seconds.items() if not isinstance(value, int | float)]
    if wrong:
        raise ValueError(
            f"{path} is damaged (no number for {', '.join(wrong)}); remove it; only the seconds "
            "are lost"
        )
    return {old_names.METHODS.get(name, name): value for name, value in seconds.items()}


@contextlib.contextmanager
def counting_seconds(workdir: pathlib.Path, phase: str) -> Iterator[None]:
    """Add the seconds that pass to the phase's seconds in the workdir, over all calls.

    Seconds of a killed call are lost.
    """
    seconds, start = read_seconds(workdir), time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - start
        replace_text(workdir / SECONDS_FILE, json.dumps(seconds, indent=1), checksum=True)


def record_command(workdir: pathlib.Path, command: str) -> None:
    """Add a command to the workdir's training commands, unless it repeats the last one."""
    lines = read_commands(workdir)
    if lines[-1:] != [command]:
        text = "".join(f"{line}\n" for line in [*lines, command])
        replace_text(workdir / COMMANDS_FILE, text, checksum=True)


def read_fields(workdir: pathlib.Path, advice: str = RESTORE_RUN) -> dict:
    """Return the config of the run in a workdir, with the present names of its fields.

    Raises:
      ValueError: the file is damaged.
    """
    return old_names.upgrade_config(read_object(workdir / CONFIG_FILE, advice))


def phase_directory(workdir: pathlib.Path, name: str) -> pathlib.Path:
    """Return the directory of a phase, which may have its name of release 0.1."""
    for old, new in old_names.METHODS.items():
        if name == new and (workdir / old).is_dir() and not (workdir / new).exists():
            return workdir / old
    return workdir / name


def target_name(section: str, speedup: float) -> str:
    """Return the directory of the phase that brings a model to a target speedup."""
    return f"{section}-{speedup:g}x"


def started_targets(workdir: pathlib.Path, sections: Collection[str]) -> list[str]:
    """Return the names of the started phases of target speedups, in the order of the speedups.

    Args:
      workdir: of the run.
      sections: names of the sections that may have the targets.
    """
    found = [TARGET_PHASE.fullmatch(path.name) for path in workdir.glob("*-*x")]
    matches = [match for match in found if match is not None and match[1] in sections]
    return [match[0] for match in sorted(matches, key=lambda match: float(match[2]))]


def adopt_phase_names(workdir: pathlib.Path) -> None:
    """Give directories of phases that release 0.1 named otherwise their present names.

    A link has the old name, since other runs may have started from a model of the phase.
    """
    for name in old_names.METHODS.values():
        directory = phase_directory(workdir, name)
        if directory.name != name:
            directory.rename(workdir / name)
            directory.symlink_to(name)


def is_of_release_0_1(workdir: pathlib.Path) -> bool:
    """Return whether the run in a workdir was begun with the field names of release 0.1."""
    fields = read_object(workdir / CONFIG_FILE, RESTORE_RUN)
    return old_names.upgrade_config(fields) != fields


def read_commands(workdir: pathlib.Path) -> list[str]:
    """Return the workdir's training commands, oldest first; empty after training in Python.

    Raises:
      ValueError: the file is damaged.
    """
    path, advice = workdir / COMMANDS_FILE, "remove it; only the commands are lost"
    if not path.exists():
        return []
    check_file(path, advice)
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from error


def flatten(config: dict, prefix: str = "") -> dict:
    """Return a nested config as {"a.b": value}, with values as JSON reads them back."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return flat


def claim_workdir(workdir: pathlib.Path, config: dict) -> None:
    """Make a new or empty directory a run's workdir, or check that its run has this config.

    Fields that may differ take the value of this call.

    Raises:
      ValueError: the directory has another run; lists the differences. Nothing is overwritten.
    """
    check_workdir_config(workdir, config)  # before a lock is put into somebody's folder
    workdir.mkdir(parents=True, exist_ok=True)
    with only_process(workdir):
        check_workdir_config(workdir, config)  # another process may have claimed it in between
        for left in workdir.glob(PARTIAL_FILES):
            left.unlink()
        adopt_phase_names(workdir)
        text = json.dumps(config, indent=1, sort_keys=True)
        replace_text(workdir / CONFIG_FILE, text, checksum=True)


def check_workdir_config(workdir: pathlib.Path, config: dict) -> None:
    """Check a config as `claim_workdir` does, without writing.

    Raises:
      ValueError: the directory has another run, or other files.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        # A killed claim leaves the others; ".tmp" was the name in earlier releases.
        ours = (LOCK_FILE, CONFIG_FILE + ".tmp", CONFIG_FILE + SUFFIX)
        if workdir.exists() and any(
            entry.name not in ours and not entry.match(PARTIAL_FILES) for entry in workdir.iterdir()
        ):
            raise ValueError(
                f"{workdir} is not empty and holds no {CONFIG_FILE}; give another --workdir"
            )
        return
    there, here = flatten(read_fields(workdir)), flatten(config)
    missing = "(absent)"
    differences = [
        f"{name}: {there.get(name, missing)!r} there, {here.get(name, missing)!r} now"
        for name in sorted(there.keys() | here.keys())
        if not is_free(name)
        and there.get(name, missing) != here.get(name, missing)
        and not (name not in there and is_neutral(name, here[name]))
        and not may_grow(workdir, name, there=there, here=here)
    ]
    if differences:
        rest = len(differences) - MAX_LISTED
        differences[MAX_LISTED:] = [f"and {rest} more"] * (rest > 0)
        raise ValueError(
            f"{workdir} holds another run ({'; '.join(differences)}); give the same config or "
            "another --workdir"
        )


def is_neutral(name: str, value: Any) -> bool:
    """Return whether a field that an earlier release did not have changes nothing by its value."""
    return value in NEUTRAL or value == NEUTRAL_OF_FIELDS.get(name)


def is_free(name: str) -> bool:
    """Return whether a field may differ between calls on one workdir."""
    return name in FREE_FIELDS or name.endswith(FREE_ENDING)


def may_grow(workdir: pathlib.Path, name: str, *, there: dict, here: dict) -> bool:
    """Return whether a field adds epochs to a phase that is finished, or not started."""
    if name not in GROWING_FIELDS or not there.get(name, 0) < here.get(name, 0):
        return False
    directory = phase_directory(workdir, name.partition(".")[0])
    return there[name] > 0 and ((directory / DONE).exists() or not directory.exists())


def check_data(workdir: pathlib.Path, digests: dict[str, str]) -> None:
    """Write the digests of a run's splits at its first call, and compare with them later.

    Saliency and teacher logits belong to examples by their number.

    Raises:
      ValueError: a split has changed.
    """
    path = workdir / DATA_FILE
    if not path.exists():
        replace_text(path, json.dumps(digests, indent=1, sort_keys=True), checksum=True)
        return
    there = read_object(path, NEW_DATA)
    changed = sorted(
        name for name in there.keys() | digests.keys() if there.get(name) != digests.get(name)
    )
    if changed:
        raise ValueError(
            f"{workdir} was trained on other data: {', '.join(changed)} changed since; restore "
            "the data or give "
            "another --workdir"
        )
