"""Commands are written as a user would type them."""

import shlex
import sys

import pytest

from adapler_jax.io.provenance import command_line, module_command, subcommand_line


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("--workdir=w", "--workdir=w"),
        ("--workdir=my  run", '"--workdir=my  run"'),
        ("", '""'),
        ("--c={'text': 'a b'}", "\"--c={'text': 'a b'}\""),
        ("--c='$HOME'", "'--c='\"'\"'$HOME'\"'\"''"),
        ('--c={"a": 1}', "'--c={\"a\": 1}'"),
        ("--c=a`b", "'--c=a`b'"),
        ("--c=a\\b", "'--c=a\\b'"),
        ("--c=a!", "'--c=a!'"),
    ],
)
def test_a_command_is_one_line_that_gives_its_words_back(word, quoted):
    assert command_line(["python", word]) == f"python {quoted}"
    assert shlex.split(command_line(["python", word])) == ["python", word]


def test_line_breaks_within_a_command_become_blanks():
    assert command_line(["python", "--c=(1,\n  2,\r\n3)"]) == 'python "--c=(1,   2, 3)"'


def test_the_command_of_a_module_has_the_arguments_of_the_process_or_those_given(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where.py", "--set=a=(1, 2)"])
    assert module_command("benchmarks.gpu") == 'python -m benchmarks.gpu "--set=a=(1, 2)"'
    assert module_command("benchmarks.gpu", []) == "python -m benchmarks.gpu"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("train.py", "python evaluate.py --workdir=w"),
        ("adapler train", "adapler evaluate --workdir=w"),
        ("/venv/bin/pytest", "adapler evaluate --workdir=w"),
    ],
)
def test_the_next_command_is_of_the_kind_that_the_user_typed(monkeypatch, program, expected):
    monkeypatch.setattr(sys, "argv", [program])
    assert subcommand_line("evaluate", "--workdir=w") == expected
