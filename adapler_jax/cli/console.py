"""How a command ends on a mistake of its user, or on a signal: one line, no traceback."""

import contextlib
import errno
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable

import jax
from absl import app, flags, logging

from adapler_jax.io import process
from adapler_jax.io.messages import one_line

EMPTY_GROUP = "--config.data.split_fractions=\"{'validation': 0.1}\""
# Fields that are tables, each with an example.
TABLES = {
    "data.columns": "{'text': 'review', 'label': 'stars'}",
    "data.sources": "{'test': 'file:test.csv'}",
    "data.split_fractions": "{'validation': 0.1}",
}
EXPECTED = {"int()": "a whole number", "to float": "a number", "boolean": "true or false"}
FIELD_ERROR = re.compile(r"flag --config\.([\w.]+)=(.*?): (.*)", re.DOTALL)
CONFIG_FILES = "give one of configs/, as --config=configs/adapler.py:sst2"
PIPE_CLOSED = 141  # what shells give for SIGPIPE
MAX_REASON = 300  # characters of another library's message


@contextlib.contextmanager
def exit_on_user_error(*, resumes: bool = True):
    """Turns ValueError, OSError and FloatingPointError into one line and exit code 2, a signal into one and its code.

    A reader of stdout that has read enough, as `head`, ends the command without a line. With ADAPLER_TRACEBACK=1 in the
    environment the errors pass, traceback and all. Args: resumes: whether a second call goes on after a signal.
    """
    try:
        with process.unwinding(resumes=resumes):
            yield
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the exit would flush into the pipe again
        sys.exit(PIPE_CLOSED)
    except (KeyboardInterrupt, process.Terminated):
        process.leave(process.received() or signal.SIGINT)
    except Exception as error:
        if process.received():  # a library made another error of it
            process.leave(process.received())
        line = error_line(error)
        if line is None or os.environ.get("ADAPLER_TRACEBACK") == "1":
            raise
        print(f"error: {one_line(line)}", file=sys.stderr)
        sys.exit(2)


def error_line(error: Exception) -> str | None:
    """Return what a user should know of an error; None where it is not the user's."""
    text = " ".join(str(error).split())
    if "Configuration is not available" in text:
        return _explain_file(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{text}; make room and give the same command again"
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return text
    if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in text:
        return (
            f"the device has too little memory ({text[:MAX_REASON]}); give a smaller batch_size or "
            "config.data.max_length, or config.remat_layers=True"
        )
    if isinstance(error, RuntimeError | AssertionError):
        return _missing_device()
    return None


def check_devices() -> None:
    """Raise ValueError where JAX_PLATFORMS asks for a device that is not there; without it JAX takes what there is."""
    line = _missing_device() if os.environ.get("JAX_PLATFORMS") else None
    if line is not None:
        raise ValueError(line)


def _missing_device() -> str | None:
    """Return a line where JAX finds no device of the kind that is asked for; None where it finds one."""
    try:
        jax.devices()
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # the latter where no plugin of that kind is installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split())[:MAX_REASON] or "JAX has no plugin for it"
        return (
            f"there is no device of JAX_PLATFORMS={asked} ({reason}); install JAX for it, as in "
            '`pip install "jax[cuda12]"`, or leave JAX_PLATFORMS out to run on what there is'
        )
    return None


def _explain(text: str) -> str:
    """One line of what absl or ml_collections says of a wrong flag."""
    text = text[1:-1] if text[:1] in "\"'" else text  # a KeyError's text is quoted
    if missing := re.match(r"flag --(\w+)=None:", text):
        return f"there is no --{missing[1]}; give --{missing[1]}=..."
    if field := FIELD_ERROR.match(text):
        return _explain_field(*field.groups())
    if early := re.search(r"Found (--[\w.]+).* before a value for --config", text):
        return f"{early[1]} is given before --config; give --config=FILE first"
    if alone := re.match(r"Unknown command line flag '(config\.[\w.]+)'", text):
        return f"--{alone[1]} needs --config=FILE before it; {CONFIG_FILES}"
    if text.strip("'").isidentifier():
        return f"there is no config field {text}; a group that starts empty is given whole, as in {EMPTY_GROUP}"
    line = [line.strip() for line in text.splitlines() if line.strip()][-1]
    line = line.replace("\\n", " ").replace("\\'", "'").removeprefix("ValueError: ")
    if field := re.match(r"('\w+') Did you mean (\"\w+\") instead", line):
        return f"unknown config field {field[1]}; did you mean {field[2]}?"
    return line


def _explain_field(field: str, value: str, reason: str) -> str:
    """One line of a field's value that has another type than the field."""
    if "as a ConfigDict" in reason:
        if field not in TABLES and not value.startswith("{"):
            return f"config.{field} is a section; give its fields one by one, as --config.{field}.NAME=VALUE"
        example = TABLES.get(field, "{'name': 'value'}")
        return (
            f"config.{field} is {value!r}, which is no table of names and values; the shell takes quotes away, so put "
            f'the table between double quotes, as in --config.{field}="{example}"'
        )
    for part, expected in EXPECTED.items():
        if part in reason:
            return f"config.{field} is {value!r}; expected {expected}"
    return f"config.{field} is {value!r}: {reason}"


def _explain_file(error: Exception) -> str:
    """One line of a config file that cannot be read or run."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError | ImportError):
        place = f"{error.filename}, line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        return f"--config: {place}{error.msg}"
    if "get_config" in text:
        return f"--config: the file has no function get_config; {CONFIG_FILES}"
    if missing := re.search(r"No such file or directory: (.*)", text):
        return f"--config: there is no file {missing[1]}; {CONFIG_FILES}"
    return f"--config: {text.partition('failure to load: ')[2] or text}; {CONFIG_FILES}"


def _parse_flags(argv):
    """absl's parser; what it refuses, a config file's own error included, becomes a ValueError of one line."""
    if any(argument in ("--help", "-h", "--helpshort") for argument in argv):
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    try:
        rest = flags.FLAGS(argv)
    except (OSError, ImportError, SyntaxError) as error:
        raise ValueError(_explain_file(error)) from error
    except (flags.Error, AttributeError, KeyError) as error:
        is_file = "attribute 'get_config'" in str(error)
        raise ValueError(_explain_file(error) if is_file else _explain(str(error))) from error
    if len(rest) > 1:
        raise ValueError(f"unknown arguments {rest[1:]}; flags are written --name=value")
    return rest


def _print_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Print a warning as one line, without the place in the code."""
    print(f"note: {one_line(' '.join(str(message).split()))}", file=sys.stderr)


def run_command(main: Callable[[], None], *, resumes: bool = True) -> None:
    """Runs a command with absl's flags: mistakes and signals end it by `exit_on_user_error`, info lines of packages are
    quiet, a warning is one line."""
    process.begin(resumes=resumes)

    def parse(argv):
        with exit_on_user_error(resumes=resumes):
            return _parse_flags(argv)

    def run(_):
        logging.set_verbosity(logging.WARNING)
        warnings.showwarning = _print_warning
        with exit_on_user_error(resumes=resumes):
            check_devices()  # before data is read, which takes time
            main()

    app.run(run, flags_parser=parse)
