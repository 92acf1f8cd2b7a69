"""The files of a run: its commands, its journal, and damage that is found."""

import json
import pathlib
import shutil
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.atomic_files import replace_text, write_checksums
from adapler_jax.training import phases
from adapler_jax.training.metrics_log import MetricsLog, read_metrics_log
from adapler_jax.training.run import run_all
from adapler_jax.training.workdir import (
    check_data,
    claim_workdir,
    counting_seconds,
    read_commands,
    read_seconds,
    record_command,
)
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.training.runs import RUNS, silent


@pytest.fixture(scope="module")
def uninterrupted(copied_run):
    return copied_run("adapler")


def test_the_commands_of_a_run_are_kept_in_their_order(tmp_path):
    first, second = "python train.py --a=1", "python train.py --a=2"
    for command in (first, first, second, first):
        record_command(tmp_path, command)
    assert read_commands(tmp_path) == [first, second, first]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("seconds.json", read_seconds),
        ("done.json", phases.read_done),
        ("commands.txt", read_commands),
        ("data.json", lambda workdir: check_data(workdir, {})),
        ("run.json", lambda workdir: claim_workdir(workdir, {})),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_what_to_do(tmp_path, name, read):
    (tmp_path / name).write_bytes(b"\xff{")
    with pytest.raises(
        ValueError, match=f"{name} is damaged .*; (remove it|restore it or give another --workdir)"
    ):
        read(tmp_path)


def test_damaged_seconds_are_told_before_a_phase(tmp_path):
    (tmp_path / "seconds.json").write_text('{"finetune": "long"}')
    with pytest.raises(ValueError, match="remove it"), counting_seconds(tmp_path, "adapler"):
        pytest.fail("it began")


def test_a_claim_that_could_not_be_written_can_be_made_again(make_config, workdirs, monkeypatch):
    workdir, config = workdirs(), make_config().to_dict()

    def full_disk(path, *_, **__):
        path.touch()
        raise OSError(28)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", full_disk)
        with pytest.raises(OSError):
            claim_workdir(workdir, config)
    claim_workdir(workdir, config)
    assert json.loads((workdir / "run.json").read_text()) == json.loads(json.dumps(config))


def test_a_claim_that_was_killed_can_be_made_again(make_config, workdirs):
    workdir = workdirs()
    workdir.mkdir()
    (workdir / "run.json.tmp").write_text("{")
    claim_workdir(workdir, make_config().to_dict())
    assert json.loads((workdir / "run.json").read_text())["task"] == "custom"


def damage(path):
    """Flips a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run.json", "run.json is damaged .*restore it or give another --workdir"),
        (
            "data.json",
            "data.json is damaged .*remove it and give the training command again; it costs no "
            "training",
        ),
        ("seconds.json", "seconds.json is damaged .*remove it; only the seconds are lost"),
        ("commands.txt", "commands.txt is damaged .*remove it; only the commands are lost"),
        (
            "finetune/done.json",
            "finetune/done.json is damaged .*remove it and give .*; it trains this phase again",
        ),
        (
            "finetune/model/model.safetensors",
            "model.safetensors is damaged .*remove .*finetune and give the training",
        ),
        (
            "finetune/model/config.json",
            "model/config.json is damaged .*; it trains this phase from its start",
        ),
        ("finetune/model/tokenizer.json", "model/tokenizer.json is damaged"),
        (
            "saliency/saliency.npz",
            "saliency.npz is damaged .*remove .*saliency and give .*repeats this phase alone",
        ),
    ],
)
def test_a_flipped_byte_in_a_file_of_a_run_is_named_before_it_is_used(
    uninterrupted, make_config, workdirs, name, message
):
    workdir = workdirs()
    shutil.copytree(uninterrupted, workdir)
    for phase in ("adapler", "adapt-1.2x"):  # which read what is damaged
        shutil.rmtree(workdir / phase)
    replace_text(workdir / "commands.txt", "python train.py\n", checksum=True)
    damage(workdir / name)
    with pytest.raises(ValueError, match=message):
        run_all(
            make_config(**RUNS["adapler"].changes),
            workdir,
            log=silent,
            command="python train.py --again",
        )


def test_a_card_that_its_user_edits_costs_no_training(tmp_path):
    save_model(tmp_path / "model", tiny.make_params(), tiny.CONFIG, pruner_name="adapler")
    write_checksums(tmp_path / "model")  # earlier releases did, with the card too
    (tmp_path / "model" / "README.md").write_text("mine")
    (tmp_path / "model" / "operands.json").write_text("{}")
    assert phases.load_phase_model(tmp_path).pruner_name == "adapler"
    damage(tmp_path / "model" / "model.safetensors")
    with pytest.raises(
        ValueError,
        match="from its start; if you changed it yourself, remove .*model.sha256 alone",
    ):
        phases.load_phase_model(tmp_path)


@pytest.mark.long
def test_a_saved_model_may_be_edited_and_copied_by_its_user(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted / "adapler" / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"good"', '"fine"'))
    assert Classifier.load(tmp_path / "model").class_names == ("bad", "fine")


def read_events(directory):
    """Step, tag and value of every number in the event files."""
    numbers = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            numbers += [
                (event.step, value.tag, value.simple_value) for value in event.summary.value
            ]
            place += 16 + length
    return numbers


@pytest.mark.long
def test_tensorboard_gets_the_numbers_of_every_step(uninterrupted):
    lines = [
        line for line in read_metrics_log(uninterrupted / "adapler") if line["group"] == "train"
    ]
    found = {
        step: value
        for step, tag, value in read_events(uninterrupted / "adapler" / "events")
        if tag == "train/main"
    }
    assert found == pytest.approx({line["step"]: line["main"] for line in lines})


@pytest.fixture(name="journal")
def _journal(tmp_path):
    """The place of a journal with five lines."""
    with MetricsLog(tmp_path, start_step=0, num_steps=5, label="adapler") as journal:
        for step in range(1, 6):
            journal.write(step, "train", {"main": 0.1 * step, "accuracy": 0.5})
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_a_flipped_byte_of_a_journal_costs_its_line_alone(journal, place):
    expected = read_metrics_log(journal.parent)
    assert [entry["step"] for entry in expected] == [1, 2, 3, 4, 5] and "crc" not in expected[0]
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[1])
    damaged[place] ^= 1
    journal.write_bytes(lines[0] + damaged + b"".join(lines[2:]))
    with pytest.warns(
        UserWarning,
        match="metrics.jsonl: 1 of 5 lines are damaged and left out; only their numbers",
    ):
        assert read_metrics_log(journal.parent) == expected[:1] + expected[2:]


def test_a_torn_last_line_is_no_damage_and_lines_of_an_earlier_release_are_read(journal):
    expected = read_metrics_log(journal.parent)
    journal.write_bytes(journal.read_bytes()[:-5])
    assert read_metrics_log(journal.parent) == expected[:4]
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in expected))
    assert read_metrics_log(journal.parent) == expected
