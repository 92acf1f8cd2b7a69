"""Every command of README.md and docs/*.md runs at a small size, or its own parser accepts it."""

import pathlib
import re
import shlex
import tomllib

import pytest

from adapler_jax.presets import old_names
from adapler_jax.training.run import check_config
from adapler_jax.training.workdir import flatten
from configs import adapler, distill, finetune, powerbert, trbert
from tests.docs.commands import (
    DOCUMENTS,
    ROOT,
    SOURCES,
    Command,
    blocks,
    check_of,
    filled_in,
    find_commands,
    in_small,
    parse,
    spans,
)

COMMANDS = [command for path in DOCUMENTS for command in find_commands(path)]
CONFIGS = {
    "adapler": adapler,
    "powerbert": powerbert,
    "trbert": trbert,
    "distill": distill,
    "finetune": finetune,
}
FIELDS = {
    name
    for module, task in [
        *((module, "custom") for module in CONFIGS.values()),
        (finetune, "custom_span"),
    ]
    for name in flatten(module.get_config(task).to_dict())
}
# Tables that are empty by default.
GROUPS = {"data.columns", "data.sources", "data.split_fractions"}
SECTIONS = {name.split(".")[0] for name in FIELDS if "." in name}
# Targets of CI that run the same steps.
IN_CI = {"quickstart": "quickstart-debug", "install": "test"}


def of_check(check):
    return pytest.mark.parametrize(
        "command", [c for c in COMMANDS if check_of(c) == check], ids=str
    )


def test_commands_are_found_in_every_language_of_shell(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a `make test` and `flag`\n\n```bash\npython a.py \\\n  --b='c d'  # e\n```\n"
        "- x\n\n  ```sh\n  make f\n  ```\n"
    )
    assert [(c.kind, c.words) for c in find_commands(page)] == [
        ("bash", ("python", "a.py", "--b=c d")),
        ("sh", ("make", "f")),
        ("inline", ("make", "test")),
    ]


@pytest.mark.parametrize("words", [("git", "pull"), ("python", "missing.py"), ("curl", "x")])
def test_a_command_without_a_check_is_an_error(words):
    with pytest.raises(ValueError, match="no check is known"):
        check_of(Command("page.md", 1, "bash", words))


def test_every_command_has_a_check_and_there_is_one_of_each():
    assert {check_of(command) for command in COMMANDS} == {
        "make",
        "install",
        "pytest",
        "run",
        "parse",
    }


def test_every_block_has_a_language():
    for path in DOCUMENTS:
        assert all(
            language or "──" in content for _, language, content in blocks(path.read_text())
        ), path


@of_check("make")
def test_make_targets_are_there_and_run_by_ci(command):
    (target,) = command.words[1:]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    workflows = (ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml")
    in_ci = re.findall(
        r"^(?: +- run: )?make ([a-z-]+)",
        "\n".join(path.read_text() for path in workflows),
        re.MULTILINE,
    )
    assert target == "help" or IN_CI.get(target, target) in in_ci


@of_check("pytest")
def test_tests_are_there_to_run(command):
    assert all((ROOT / path).is_file() for path in command.words[3:])


def optional_dependencies() -> list[str]:
    """Return the names of the package's extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"])


@of_check("install")
def test_installs_name_files_and_packages_that_are_there(command):
    names = [word for word in command.words[1:] if word not in ("install", "-r", ".")]
    extras = {word for word in names if word.startswith(".[")}
    assert extras <= {f".[{name}]" for name in optional_dependencies()}
    names = [name for name in names if name not in extras]
    optional = (ROOT / "requirements-test.txt").read_text()
    for name in names:
        is_file = name.endswith(".txt") and (ROOT / name).is_file()
        assert (
            is_file
            or name == ".venv/bin/activate"
            or re.search(rf"^{name}\b", optional, re.MULTILINE)
        ), name


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if check_of(c) in ("parse", "run")], ids=str
)
def test_flags_and_config_fields_are_taken_by_the_commands_own_parser(command, monkeypatch):
    found = parse(filled_in(command), monkeypatch)
    if isinstance(found, dict) and hasattr(found.get("config"), "to_dict"):
        check_config(found["config"])


def test_these_parsers_reject_a_misspelt_flag_or_field(monkeypatch, capsys):
    for words in (
        ["python", "-m", "benchmarks.engines", "--qick"],
        ["python", "-m", "benchmarks.accuracy", "--runz=x"],
        [
            "python",
            "train.py",
            "--workdir=w",
            "--config=configs/adapler.py:sst2",
            "--config.adapler.lenght_coef=1",
        ],
    ):
        with pytest.raises(SystemExit):
            parse(words, monkeypatch)
    assert "length_coef" in capsys.readouterr().err


def overrides():
    """Return (document, words) of the code spans that contain only --config flags."""
    found = [(path.name, content) for path in DOCUMENTS for _, content in spans(path.read_text())]
    return [
        (name, content)
        for name, content in found
        if content.startswith("--config.") and "FIELD" not in content
    ]


@pytest.mark.parametrize(("document", "content"), overrides())
def test_config_flags_between_words_are_taken_by_the_parser_of_train(
    document, content, monkeypatch
):
    words = shlex.split(content)
    section = words[0].removeprefix("--config.").split(".")[0]
    name = section if section in CONFIGS and section != "finetune" else "adapler"
    if "=" not in content:
        assert {word.removeprefix("--config.") for word in words} <= FIELDS
        return
    task = "custom_span" if section == "qa" else "custom"
    parse(
        ["python", "train.py", "--workdir=w", f"--config=configs/{name}.py:{task}", *words],
        monkeypatch,
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_config_field_that_a_document_names_exists(path):
    old = set(old_names.FIELDS) if path.name == "migration.md" else set()
    for line, content in spans(path.read_text()):
        name = content.removeprefix("config.").split("=")[0]
        is_field = re.fullmatch(r"\w+(\.\w+)+", name) and name.split(".")[0] in SECTIONS
        if is_field and not name.endswith((".py", ".txt")):
            assert name in FIELDS | GROUPS | old, f"{path.name}:{line} {name}"


def test_tasks_become_small_ones_in_the_sandbox():
    words = ("python", "train.py", "--config=configs/adapler.py:sst2,paper", "--workdir=w")
    assert in_small(Command("page.md", 1, "bash", words)) == [
        "python",
        "train.py",
        "--config=configs/adapler.py:custom,paper,debug",
        "--workdir=w",
        "--config.model=path/or/hub-name",
        "--config.data.source=file:reviews.csv",
    ]


def test_tasks_of_questions_become_the_readers_own():
    for task, small in (
        ("squad2", "custom_span"),
        ("race", "custom_choice"),
        ("custom_span", "custom_span"),
    ):
        words = in_small(
            Command(
                "page.md", 1, "bash", ("python", "train.py", f"--config=configs/trbert.py:{task}")
            )
        )
        assert words[2] == f"--config=configs/trbert.py:{small},debug"
        assert words[3:] == (
            [] if task == small else ["--config.model=path/or/hub-name", SOURCES[small]]
        )


def test_files_that_the_documents_link_to_are_there():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text()):
            if "://" not in target:
                assert pathlib.Path(path.parent / target).exists(), f"{path.name}: {target}"
