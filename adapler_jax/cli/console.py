"""End a command on a mistake of its user, or on a signal: one line, no traceback."""

import contextlib
import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import app, flags, logging

from adapler_jax.cli.config_files import resolve_arguments
from adapler_jax.cli.flag_errors import explain_config_file, explain_flag_error
from adapler_jax.cli.flag_help import describe_flags
from adapler_jax.io import process
from adapler_jax.io.extras import explain_missing_module
from adapler_jax.io.messages import one_line
from adapler_jax.io.terminal import print_note
from adapler_jax.presets.old_names import upgrade_arguments

USER_ERROR = 2  # exit code
PIPE_CLOSED = 141  # exit code that shells give for SIGPIPE
MAX_REASON = 300  # characters of another library's message
HELP = ("--help", "-h", "--helpshort")


@contextlib.contextmanager
def exit_on_user_error(*, resumes: bool = True) -> Iterator[None]:
    """End the process with one line and exit code 2 on an error of the user.

    These are ValueError, OSError, FloatingPointError and a module of an extra that is missing. A
    signal ends it with one line and the code of that signal. A closed standard output, as by
    `head`, ends it without a line. With ADAPLER_TRACEBACK=1 in the environment errors pass.

    Args:
      resumes: whether the same command continues the work after a signal.
    """
    try:
        with process.unwinding(resumes=resumes):
            yield
    except BrokenPipeError:
        # The exit would otherwise flush into the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except (KeyboardInterrupt, process.Terminated):
        process.leave(process.received() or signal.SIGINT)
    except Exception as error:
        _exit_on_error(error)


def _exit_on_error(error: Exception) -> None:
    """End the process with one line on an error of the user; raise other errors again."""
    number = process.received()
    if number:  # a library raised another error on the signal
        process.leave(number)
    line = error_line(error)
    if line is None or os.environ.get("ADAPLER_TRACEBACK") == "1":
        raise error
    print(f"error: {one_line(line)}", file=sys.stderr)
    sys.exit(USER_ERROR)


def error_line(error: Exception) -> str | None:
    """Return one line on an error of the user; None for other errors."""
    text = " ".join(str(error).split())
    if "Configuration is not available" in text:
        return explain_config_file(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{text}; make room and give the same command again"
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return text
    if isinstance(error, ImportError):
        return explain_missing_module(error)
    if isinstance(error, RuntimeError | AssertionError):
        return _device_error_line(text)
    return None


def _device_error_line(text: str) -> str | None:
    """Return one line on a device without memory, or on an absent device; None for other errors."""
    if "RESOURCE_EXHAUSTED" in text:
        return (
            f"the device has too little memory ({text[:MAX_REASON]}); give a smaller batch_size or "
            "config.data.max_length, or config.remat_layers=True"
        )
    return _missing_device()


def check_devices() -> None:
    """Raise ValueError if JAX_PLATFORMS names a device that is absent."""
    line = _missing_device() if os.environ.get("JAX_PLATFORMS") else None
    if line is not None:
        raise ValueError(line)


def _missing_device() -> str | None:
    """Return one line if JAX finds no device of the kind in JAX_PLATFORMS; None if it finds one."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter if no plugin is installed
        kind = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split())[:MAX_REASON] or "JAX has no plugin for it"
        return (
            f"there is no device of JAX_PLATFORMS={kind} ({reason}); install JAX for it, as in "
            '`pip install "jax[cuda12]"`, or unset JAX_PLATFORMS to use the device that is there'
        )
    return None


def _parse_flags(words: Sequence[str], values: flags.FlagValues) -> None:
    """Parse a command line; turn the parser's errors into a ValueError of one line."""
    try:
        if values is not flags.FLAGS:
            flags.FLAGS(words[:1])  # absl's own flags keep their defaults
        words, notes = upgrade_arguments(words)
        rest = values(resolve_arguments(words))
    except (OSError, ImportError, SyntaxError) as error:
        raise ValueError(explain_config_file(error)) from error
    except (flags.Error, AttributeError, KeyError) as error:
        if "attribute 'get_config'" in str(error):
            raise ValueError(explain_config_file(error)) from error
        raise ValueError(explain_flag_error(str(error))) from error
    for note in notes:
        print_note(f"note: {note}")
    if len(rest) > 1:
        raise ValueError(f"unknown arguments {rest[1:]}; flags are written --name=value")


def _print_help(values: flags.FlagValues, usage: str | None) -> None:
    """Print the help of a command and end the process."""
    if usage is None:
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    print(f"{usage}\nflags:\n{describe_flags(values)}")
    sys.exit(0)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line, without its location in the code."""
    print(f"note: {one_line(' '.join(str(message).split()))}", file=sys.stderr)


def typed_command() -> list[str]:
    """Return the words of this process's command, to be recorded with its results."""
    program, *rest = sys.argv
    words = ["python", program] if program.endswith(".py") else program.split(" ")
    return [*words, *rest]


def run_command(
    main: Callable[[], None],
    *,
    resumes: bool = True,
    values: flags.FlagValues = flags.FLAGS,
    usage: str | None = None,
) -> None:
    """Run a command with flags; mistakes and signals end it as `exit_on_user_error` says.

    Info lines of packages are silent, and a warning is one line.

    Args:
      main: the command, called once the flags are parsed.
      resumes: whether the same command continues the work after a signal.
      values: the flags of the command; absl's global flags by default.
      usage: the text that --help prints before the flags.
    """
    process.begin(resumes=resumes)

    def parse(words: Sequence[str]) -> None:
        """Parse the flags, or print the help."""
        if any(word in HELP for word in words[1:]):
            _print_help(values, usage)
        with exit_on_user_error(resumes=resumes):
            _parse_flags(words, values)

    def run(_) -> None:
        """Run the command after the checks that take no time."""
        logging.set_verbosity(logging.WARNING)
        warnings.showwarning = _print_warning
        with exit_on_user_error(resumes=resumes):
            check_devices()  # before data is read, which takes time
            main()

    app.run(run, flags_parser=parse)
