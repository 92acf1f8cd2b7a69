"""A command ends on signals with one line and the shells' exit codes, wherever it is."""

import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, time, hashlib
from adapler_jax.io import process
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
process.begin()
"""
READY = "print('ready', flush=True)\n"
BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2 * 10**9)\n"  # does not return to Python
IN_IMPORTS = READY + "time.sleep(60)"
IN_A_COMPILATION = f"""
process.GRACE_S = 0.2
try:
    with process.unwinding(resumes=True):
        {READY}        {BUSY}
except (KeyboardInterrupt, process.Terminated):
    process.leave(process.received())
"""
SLOW_TO_TIDY = f"""
process.GRACE_S = 60
with process.unwinding(resumes=True):
    try:
        {READY}        time.sleep(60)
    finally:
        print('tidies', flush=True)
        {BUSY}
"""
LOST = f"""
class Hook:
    def __del__(self):
        {READY}        time.sleep(1)

process.GRACE_S = 60
try:
    with process.unwinding(resumes=True):
        hook = Hook()
        del hook
        {{step}}
except (KeyboardInterrupt, process.Terminated):
    process.leave(process.received())
"""
LOST_IN_A_STEP = LOST.format(step="process.check(); print('went on')")
LOST_IN_THE_LAST_STEP = LOST.format(step="pass")
ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


def start(program):
    """Runs a program until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def end(process):
    """Return exit code and lines of a program."""
    output, errors = process.communicate(timeout=30)
    assert output == ""
    return process.returncode, errors.splitlines()


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize(
    "program", [IN_IMPORTS, IN_A_COMPILATION, LOST_IN_A_STEP, LOST_IN_THE_LAST_STEP]
)
def test_a_signal_ends_a_command_with_one_line_and_the_code_of_shells(program, number):
    process = start(program)
    process.send_signal(number)
    code, word = ENDS[number]
    assert end(process) == (code, [f"{word}; give the same command again to continue"])


def test_a_second_signal_ends_a_command_at_once():
    process = start(SLOW_TO_TIDY)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "tidies\n"
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, ["interrupted; give the same command again to continue"])


def test_unfinished_files_are_removed_where_the_process_leaves(tmp_path):
    program = f"""
import pathlib
from adapler_jax.io.atomic_files import replacing_file
process.GRACE_S = 0.2
try:
    path = pathlib.Path({str(tmp_path / "a")!r})
    with process.unwinding(resumes=False), replacing_file(path) as partial:
        partial.write_text("half")
        {READY}        {BUSY}
except process.Terminated:
    process.leave(process.received())
"""
    process = start(program)
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, ["terminated"]) and not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_ignored():
    program = (
        BEGIN.replace("default_int_handler", "SIG_IGN")
        + "os.kill(os.getpid(), signal.SIGINT)\nprint('on')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "on\n")
