"""The `adapler` command: its subcommands, exit codes, names of presets and missing extras."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

import adapler_jax
from adapler_jax.cli import config_files, main
from adapler_jax.cli.config_files import resolve_arguments, resolve_config
from adapler_jax.io.extras import EXTRAS, explain_missing_module

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run_adapler(*arguments, **environment):
    """Run `python -m adapler_jax` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "adapler_jax", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_subcommand(capsys, arguments):
    main.main(arguments)
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", printed, re.MULTILINE) for name in main.SUBCOMMANDS)
    assert set(main.SUBCOMMANDS) == {
        *("train", "evaluate", "predict", "compress", "calibrate", "report", "latency", "export")
    }


def test_the_version_is_printed(capsys):
    main.main(["--version"])
    assert capsys.readouterr().out == f"adapler {adapler_jax.__version__}\n"


def test_an_unknown_subcommand_is_a_mistake_of_the_user(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["trian", "--workdir=w"])
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: unknown subcommand 'trian'; did you mean train? there are train")
    assert line.count("\n") == 1


def test_help_version_and_unknown_subcommands_import_no_jax():
    for arguments in (["--help"], ["--version"], ["nosuch"]):
        program = (
            "import sys\n"
            "from adapler_jax.cli.main import main\n"
            "try:\n"
            f"    main({arguments})\n"
            "except SystemExit:\n"
            "    pass\n"
            "assert not {'jax', 'numpy', 'absl', 'flax'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    start = time.monotonic()
    done = run_adapler("--help")
    assert done.returncode == 0 and "usage: adapler" in done.stdout
    assert time.monotonic() - start < 2


@pytest.mark.long
def test_every_subcommand_has_a_help_of_its_own():
    program = """
from adapler_jax.cli import main
for name in main.SUBCOMMANDS:
    try:
        main.main([name, "--help"])
    except SystemExit as exit:
        print(f"PAGE {exit.code}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    *pages, end = done.stdout.split("PAGE 0\n")
    for name, page in zip(main.SUBCOMMANDS, pages, strict=True):
        assert f"\n    adapler {name} " in page and "\n  --" in page
        assert "absl" not in page
    assert end == ""


@pytest.mark.long
def test_a_mistake_in_a_flag_ends_a_subcommand_with_code_2():
    done = run_adapler("evaluate", "--workdr=w")
    assert done.returncode == 2
    assert done.stderr.startswith("error: Unknown command line flag 'workdr'")
    done = run_adapler("train", "--workdir=w")
    assert (done.returncode, done.stderr) == (2, "error: there is no --config; give --config=...\n")


def test_names_of_presets_become_paths_and_files_stay():
    path = ROOT / "configs" / "adapler.py"
    assert resolve_config("adapler:sst2,debug") == f"{path}:sst2,debug"
    assert resolve_config("quickstart") == f"{path.with_name('quickstart.py')}"
    for value in ("configs/adapler.py:sst2", "mine.py", "./adapler:sst2", "a/b", ""):
        assert resolve_config(value) == value
    with pytest.raises(ValueError, match="unknown preset 'adaplr'; did you mean adapler"):
        resolve_config("adaplr:sst2")


def test_only_the_value_of_the_config_flag_is_resolved():
    path = f"{ROOT / 'configs' / 'trbert.py'}:imdb"
    words = ["adapler train", "--config=trbert:imdb", "--config.model=trbert:imdb", "trbert:imdb"]
    assert resolve_arguments(words) == [words[0], f"--config={path}", *words[2:]]
    assert resolve_arguments(["train.py", "--config", "trbert:imdb"])[-1] == path


def test_every_config_file_is_a_preset():
    names = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert set(config_files.preset_names()) == names and "adapler" in names


def test_a_missing_package_names_its_extra():
    line = explain_missing_module(ModuleNotFoundError("no", name="orbax.checkpoint"))
    assert line == 'orbax is not installed; install it with `pip install ".[train]"` in the clone'
    assert explain_missing_module(ModuleNotFoundError("no", name="adapler_jax.cli.nosuch")) is None
    assert "jax" not in EXTRAS


def test_a_subcommand_without_its_extra_ends_in_one_line():
    program = (
        "import sys\n"
        "sys.modules['ml_collections'] = None\n"
        "from adapler_jax.cli.main import main\n"
        "main(['train', '--config=adapler:sst2', '--workdir=w'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: ml_collections is not installed; "
        'install it with `pip install ".[train]"` in the clone\n'
    )
