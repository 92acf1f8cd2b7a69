"""Mistakes of users end in one line that names the field, and signals in theirs."""

import os
import pathlib
import re
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from adapler_jax.cli import console
from adapler_jax.cli.console import error_line, exit_on_user_error
from adapler_jax.io import process

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
SST2 = f"--config={CONFIGS / 'adapler.py'}:sst2"
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(name="message")
def _message(monkeypatch, capsys):
    """What a command with these arguments ends with."""

    def parse(*arguments):
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file(
            "config", None, lock_config=True, flag_values=values
        )
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        monkeypatch.delitem(sys.modules, "config_config", raising=False)  # of the call before
        with pytest.raises(SystemExit) as ended, exit_on_user_error():
            console._parse_flags(sys.argv, values)
            _ = config.value.model  # the parse of the fields happens on access
        assert ended.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and line.count("\n") == 1 and len(line) < 1000
        return line

    return parse


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # What a shell makes of --config.data.columns={'text': 'review'}, without quotes around it.
        (
            ["--config.data.columns={text:", "review}"],
            "config.data.columns is '{text:', which is no table",
        ),
        (
            ["--config.data.columns={text:review}"],
            "between double quotes, as in --config.data.columns=\"{'text'",
        ),
        (
            ["--config.data.columns=text:review"],
            "config.data.columns is 'text:review', which is no table",
        ),
        (
            ["--config.data.split_fractions={validation:0.1}"],
            "as in --config.data.split_fractions=\"{'validation': 0.1}\"",
        ),
        (["--config.finetune=3"], "config.finetune is a section; give its fields one by one"),
        (
            ["--config.finetune.learning_rte=1"],
            "unknown config field 'learning_rte'; did you mean \"learning_rate\"?",
        ),
        (
            ["--config.finetune.num_epochs=three"],
            "config.finetune.num_epochs is 'three'; expected a whole number",
        ),
        (
            ["--config.data.max_length=1e3"],
            "config.data.max_length is '1e3'; expected a whole number",
        ),
        (
            ["--config.finetune.learning_rate=fast"],
            "config.finetune.learning_rate is 'fast'; expected a number",
        ),
        (["--config.reinit_head=maybe"], "config.reinit_head is 'maybe'; expected true or false"),
        (["--config.nosuch.field=3"], "there is no config field 'nosuch'"),
        (["--workdr=x"], "Unknown command line flag 'workdr'"),
        (["rest"], "unknown arguments ['rest']; flags are written --name=value"),
    ],
)
def test_a_mistyped_flag_has_a_message_of_its_own(message, arguments, expected):
    assert expected in message(SST2, *arguments)


def test_an_unknown_task_of_a_config_file_is_named(message):
    assert "unknown task 'ssst2'; did you mean sst2? there are sst2" in message(
        SST2.replace(":sst2", ":ssst2")
    )


def test_a_field_before_its_file_or_without_one_says_so(message):
    assert "--config.model is given before --config; give --config=FILE first" in message(
        "--config.model=x", SST2
    )
    assert "--config.model needs --config=FILE before it" in message("--config.model=x")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, r"--config: there is no file '.*mine.py'; give a preset or a file, as"),
        ("def get_config(:", r"--config: .*mine.py, line 1: invalid syntax"),
        ("import nosuch", "--config: No module named 'nosuch'"),
        ("x = 1", "--config: the file has no function get_config; give a preset or a file, as"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_named(message, tmp_path, content, expected):
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    assert re.search(expected, message(f"--config={tmp_path / 'mine.py'}"))
    assert "earlier failure" not in message(f"--config={tmp_path}")


@pytest.mark.parametrize(
    "error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda': no plugin")]
)
def test_a_device_that_is_absent_is_one_line(monkeypatch, error):
    def refuse():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert error_line(error) is None  # there is a device: the error is another one
    monkeypatch.setattr(console.jax, "devices", refuse)
    assert error_line(error).startswith("there is no device of JAX_PLATFORMS=cuda (")


def test_an_absent_device_is_named_before_a_command_begins(monkeypatch, capsys):
    def absent():
        raise RuntimeError("Unknown backend cuda")

    began = []
    monkeypatch.setattr(console.jax, "devices", absent)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(console.process, "begin", lambda **_: None)
    monkeypatch.setattr(console.app, "run", lambda run, flags_parser: run(None))
    monkeypatch.setattr(console.warnings, "showwarning", console.warnings.showwarning)
    with pytest.raises(SystemExit):
        console.run_command(lambda: began.append(1))
    assert not began
    assert capsys.readouterr().err.startswith("error: there is no device of JAX_PLATFORMS=cuda (")
    monkeypatch.delenv("JAX_PLATFORMS")
    console.run_command(lambda: began.append(1))
    assert began == [1]


def test_memory_that_runs_out_is_one_line_and_other_errors_of_the_device_are_not_the_users():
    line = error_line(
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\n" + "x" * 2000)
    )
    assert (
        line.startswith("the device has too little memory (RESOURCE_EXHAUSTED") and len(line) < 1000
    )
    assert error_line(RuntimeError("INTERNAL: a bug")) is None
    assert error_line(OSError(28, "No space left on device")).endswith(
        "make room and give the same command again"
    )


def test_an_error_that_a_library_makes_of_a_signal_is_no_error_of_the_user(monkeypatch):
    ends = []
    monkeypatch.setattr(os, "_exit", lambda code: ends.append(code) or sys.exit(code))
    monkeypatch.setattr(os, "write", lambda *_: None)
    with pytest.raises(SystemExit), exit_on_user_error():
        monkeypatch.setattr(process._State, "received", 15)
        raise ValueError("cannot go on")
    process._State.leaving.release()
    assert ends == [143]
