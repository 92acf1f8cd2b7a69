"""The command answers standard input, and leaves no file when it is stopped."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from adapler_jax.serving import streams
from tests.serving.outputs import assert_answers, read_table

ROOT = pathlib.Path(__file__).parents[2]


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "adapler_jax", "predict", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_command_answers_standard_input(tiny_classifier, classifier):
    process = command(
        f"--model={tiny_classifier}", "--batch_size=4", "--driver=packed", "--dtype=float32"
    )
    out, error = process.communicate("good films\n\nbad\n")
    assert process.returncode == 0, error
    assert_answers(read_table(out), classifier.predict(["good films", "", "bad"]))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--input=in.doc"], "error: 'in.doc': unknown file kind 'doc'; known: txt, csv"),
    ],
)
def test_mistakes_end_the_command_in_one_line(tiny_classifier, arguments, line):
    process = command(f"--model={tiny_classifier}", *arguments)
    error = process.communicate("")[1]
    assert process.returncode == 2
    assert error.startswith(line) and error.count("\n") == 1


@pytest.fixture(name="interruptible")
def _interruptible():
    """A shell's background jobs ignore SIGINT, and so would what they start."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_command_leaves_no_file(tiny_classifier, tmp_path, number, code):
    with command(
        f"--model={tiny_classifier}", f"--output={tmp_path}/out.csv", start_new_session=True
    ) as process:
        process.stdin.write("good film\n" * (2 * streams.WINDOW_ROWS + 1))
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while (
            not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        assert [path.name for path in tmp_path.iterdir()] == [f".out.csv.{process.pid}.partial"]
        os.kill(process.pid, number)
        try:
            process.wait(300)  # a compilation is not interrupted
        finally:
            process.kill()
        assert (process.returncode, list(tmp_path.iterdir())) == (code, [])
