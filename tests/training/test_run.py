"""Whole runs in miniature: phases, restarts, refusals."""

import json
import pathlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from adapler_jax import forward as full_width
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.atomic_files import replace_text, write_checksums
from adapler_jax.io.provenance import command_line, module_command
from adapler_jax.training import loop, phases
from adapler_jax.training.finished import finished_phases
from adapler_jax.training.from_config import make_adapler
from adapler_jax.training.methods.adapler import load_saliency
from adapler_jax.training.metrics_log import MetricsLog, read_metrics_log
from adapler_jax.training.run import describe, run_all
from adapler_jax.training.setup import check_finetuned, load_run_context, truncation_note
from adapler_jax.training.summary import summary
from adapler_jax.training.workdir import (
    check_data,
    check_workdir_config,
    claim_workdir,
    counting_seconds,
    read_commands,
    read_seconds,
    record_command,
)
from adapler_jax.weights.save import load_model, save_model
from configs import adapler
from tests import tiny

ALL_PHASES = ("finetune", "saliency", "adapler", "adapt-1.2x")
RUN = {
    "finetune__num_epochs": 2,
    "adapler__num_epochs": 2,
    "adapt__target_speedups": (1.2,),
    "adapler__length_coef": 3.0,
    "finetune__checkpoint_every_steps": 4,
    "adapler__checkpoint_every_steps": 4,
}


def silent(_):
    pass


def assert_same_tree(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def run_to_end(workdir, config):
    run_all(config, workdir, log=silent)
    return {name: phases.read_done(workdir / name) for name in ALL_PHASES}


@pytest.fixture(scope="module")
def uninterrupted(make_config, tmp_path_factory):
    """The workdir of one whole run that the tests below read."""
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    run_to_end(workdir, make_config(**RUN))
    return workdir


def test_a_run_walks_its_phases_and_leaves_models(uninterrupted):
    for name in ("adapler", "adapt-1.2x"):
        saved = load_model(uninterrupted / name / "model")
        assert saved.pruner_name == "adapler"
        assert saved.class_names == ("bad", "good")
    assert phases.read_done(uninterrupted / "adapt-1.2x")["validation"]["flops_speedup"] >= 1.2
    journal = read_metrics_log(uninterrupted / "adapler")
    assert [line["epoch"] for line in journal if line["group"] == "validation"] == [1, 2]
    assert [line["step"] for line in journal if line["group"] == "train"] == list(range(1, 13))
    assert any((uninterrupted / "adapler" / "events").glob("events.out.tfevents.*"))
    assert not (uninterrupted / "adapler" / "last").exists()  # nothing continues from it


def test_adapler_keeps_what_decides_the_label_and_little_else(make_config, workdirs, tiny_files):
    workdir = workdirs()
    run_all(
        make_config(
            finetune__num_epochs=15,
            adapler__num_epochs=24,
            adapler__predictor_learning_rate=1e-2,
            adapler__threshold_learning_rate=2e-2,
            adapler__length_coef=1.0,
            adapler__length_target=0.0,
        ),
        workdir,
        log=lambda _: None,
    )
    assert phases.read_done(workdir / "finetune")["validation"]["score"] > 0.9
    rows = [
        json.loads(line) for line in (tiny_files / "data" / "test.jsonl").read_text().splitlines()
    ]
    answers = Classifier.load(workdir / "adapler" / "model").predict([row["text"] for row in rows])
    assert (
        np.mean(
            [answer.label == ("bad", "good")[row["label"]] for answer, row in zip(answers, rows)]
        )
        > 0.9
    )
    first = [answer.kept_words[0] for answer in answers]
    deciding = np.mean([bool({"bad", "good"} & set(words)) for words in first])
    others = sum(word not in ("bad", "good") for words in first for word in words)
    assert deciding > 0.9 and others < 0.3 * sum(len(row["text"].split()) - 1 for row in rows)
    assert sum(len(answer.kept_words[-1]) for answer in answers) < 1.0 * len(rows)


def test_a_finished_run_is_not_repeated(make_config, uninterrupted, monkeypatch):
    monkeypatch.setattr(loop, "train_loop", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(phases, "train_loop", lambda *_: pytest.fail("trained again"))
    lines = []
    run_all(make_config(**RUN), uninterrupted, log=lines.append)
    assert all(f"{name}: finished before" in lines for name in ALL_PHASES)
    assert (
        lines[0] == f"continues the run in {uninterrupted}"
    )  # notes of the first call are not given again
    assert not any(line.startswith(("started afresh", "data:", "majority class")) for line in lines)


def test_a_run_killed_in_every_phase_ends_with_the_numbers_of_an_uninterrupted_one(
    make_config, workdirs, uninterrupted, run_killed_at
):
    torn, config = workdirs(), make_config(**RUN)
    run_killed_at(config, torn, ALL_PHASES, ((9, 0), (13, 2), (7, 3)))
    expected = {name: phases.read_done(uninterrupted / name) for name in ALL_PHASES}
    assert run_to_end(torn, config) == expected
    for name in ("finetune", "adapler", "adapt-1.2x"):
        assert_same_tree(
            load_model(torn / name / "model").params,
            load_model(uninterrupted / name / "model").params,
        )
        assert read_metrics_log(torn / name) == read_metrics_log(uninterrupted / name)


def test_another_config_is_refused_and_nothing_overwritten(make_config, workdirs):
    workdir = workdirs()
    run_all(make_config(method="finetune"), workdir, log=silent)
    before = (workdir / "run.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"holds another run.*finetune.learning_rate: 0.01 there, 0.001 now"
    ):
        run_all(make_config(method="finetune", finetune__learning_rate=1e-3), workdir, log=silent)
    assert (workdir / "run.json").read_bytes() == before


def test_fields_that_decide_no_number_may_change_between_calls(make_config, workdirs):
    workdir = workdirs()
    run_all(make_config(method="finetune"), workdir, log=silent)
    lines = []
    changes = {
        "inference__buckets": (4, 16),
        "inference__driver": "packed",
        "inference__compilation_cache": "none",
    }
    run_all(make_config(method="finetune", **changes), workdir, log=lines.append)
    assert "finetune: finished before" in lines
    found = json.loads((workdir / "run.json").read_text())["inference"]
    assert found == {
        "buckets": [4, 16],
        "compilation_cache": "none",
        "driver": "packed",
        "autotune_table": "",
    }


def test_the_commands_of_a_run_are_kept_in_their_order(tmp_path):
    first, second = "python train.py --a=1", "python train.py --a=2"
    for command in (first, first, second, first):
        record_command(tmp_path, command)
    assert read_commands(tmp_path) == [first, second, first]


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


def test_changed_data_is_refused(make_config, workdirs, tiny_files, tmp_path):
    workdir, texts = workdirs(), tmp_path / "data"
    shutil.copytree(tiny_files / "data", texts)
    config = make_config(method="finetune", data__source=f"file:{texts}")
    run_all(config, workdir, log=silent)
    lines = (texts / "train.jsonl").read_text().splitlines()
    (texts / "train.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(
        ValueError, match="was trained on other data: train changed since; restore the data"
    ):
        run_all(config, workdir, log=silent)
    (texts / "train.jsonl").write_text("\n".join(lines) + "\n")
    (texts / "test.jsonl").write_text(lines[0] + "\n")
    run_all(config, workdir, log=silent)


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


def test_a_refusal_names_some_of_many_differences(tmp_path):
    claim_workdir(tmp_path, {f"a{number}": 0 for number in range(10)})
    with pytest.raises(
        ValueError, match=r"\(a0: 0 there, 1 now; .*a7: 0 there, 1 now; and 2 more\); give the same"
    ):
        claim_workdir(tmp_path, {f"a{number}": 1 for number in range(10)})


def test_a_claim_that_was_killed_can_be_made_again(make_config, workdirs):
    workdir = workdirs()
    workdir.mkdir()
    (workdir / "run.json.tmp").write_text("{")
    claim_workdir(workdir, make_config().to_dict())
    assert json.loads((workdir / "run.json").read_text())["task"] == "custom"


def test_the_pruner_has_the_options_of_the_config(make_config):
    """Of the tiny trace below nothing was dropped: a share of 1, of which 0.3 count beyond a
    target of 0.7."""
    config = make_config(
        adapler__length_target=0.7, adapler__predictor_dim=3, adapler__initial_threshold=0.5
    )
    pruner = make_adapler(tiny.CONFIG, config.adapler)
    params, batch = tiny.make_params(pruner, threshold=0.01), tiny.make_batch()
    assert params["pruner"]["hidden"]["kernel"].shape[-1] == 3
    assert float(pruner.init(jax.random.key(0), tiny.CONFIG)["threshold_N"][0]) == 0.5
    _, trace = full_width.forward(params, tiny.CONFIG, pruner, batch, slope=None)
    assert pruner.loss_terms(params["pruner"], trace, batch)["length"] == pytest.approx(
        0.3, abs=0.02
    )


@pytest.fixture(name="asked", scope="module")
def _asked(make_config, tmp_path_factory):
    """A run with two speedups that its model has, one out of reach, and its notes."""
    workdir, lines = tmp_path_factory.mktemp("asked") / "run", []
    changes = {"adapler__length_coef": 3.0, "adapler__initial_threshold": 0.9}
    run_all(
        make_config(**changes, adapt__target_speedups=(1.2, 1.5, 50.0)), workdir, log=lines.append
    )
    return workdir, lines, changes


def test_a_slower_model_is_scaled_without_training(asked):
    workdir, _, _ = asked
    start, slower = (load_model(workdir / name / "model") for name in ("adapler", "adapt-1.2x"))
    assert phases.read_done(workdir / "adapler")["validation"]["flops_speedup"] >= 1.2
    assert_same_tree(slower.params["encoder"], start.params["encoder"])
    assert not (workdir / "adapt-1.2x" / "metrics.jsonl").exists()
    assert (workdir / "adapt-50x" / "metrics.jsonl").exists()
    trained = [phases.read_done(workdir / f"adapt-{x}x")["trained"] for x in ("1.2", "1.5", "50")]
    assert trained == [False, False, True]


def test_a_speedup_out_of_reach_leaves_no_model_and_says_so(asked):
    workdir, lines, _ = asked
    done = phases.read_done(workdir / "adapt-50x")
    assert done["is_reached"] is False and not (workdir / "adapt-50x" / "model").exists()
    assert done["validation"]["flops_speedup"] < 50.0
    (told,) = (line for line in lines if line.startswith("adapt-50x: 50x"))
    assert "50x is out of reach: validation score" in told and len(told) < 250
    assert "with the highest thresholds. No model is saved; ask for less" in told
    assert list(finished_phases(workdir)) == ["dense", "adapler", "adapt-1.2x", "adapt-1.5x"]


def test_a_run_ends_with_a_table_and_the_next_command(asked):
    workdir, lines, _ = asked
    head, names, *rows, share, command = lines[-10:]
    assert head == "accuracy of the validation split in percent, FLOPs speedup over plain BERT:"
    assert names.split() == ["phase", "score", "speedup", "seconds", "model"]
    assert [row.split()[0] for row in rows] == [
        "finetune",
        "saliency",
        "adapler",
        "adapt-1.2x",
        "adapt-1.5x",
        "adapt-50x",
    ]
    assert rows[2].endswith(str(workdir / "adapler" / "model")) and rows[-1].endswith(
        "  none: 50x is out of reach"
    )
    assert share == "the most frequent class alone would score 56.2"
    assert command == f"next: python evaluate.py --workdir={workdir}"


def test_speedups_can_be_asked_for_one_after_the_other(asked, make_config, workdirs):
    at_once, _, changes = asked
    workdir = workdirs()
    run_all(make_config(**changes, adapt__target_speedups=(1.5,)), workdir, log=silent)
    run_all(make_config(**changes, adapt__target_speedups=(1.2,)), workdir, log=silent)
    for name in ("adapt-1.2x", "adapt-1.5x"):
        assert phases.read_done(workdir / name) == phases.read_done(at_once / name)
        assert_same_tree(
            load_model(workdir / name / "model").params, load_model(at_once / name / "model").params
        )


def damage(path):
    """Flips a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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
        run_all(make_config(**RUN), workdir, log=silent, command="python train.py --again")


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


def test_a_saved_model_may_be_edited_and_copied_by_its_user(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted / "adapler" / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"good"', '"fine"'))
    assert Classifier.load(tmp_path / "model").class_names == ("bad", "fine")


def test_a_run_of_an_earlier_release_is_continued_without_checksums(
    uninterrupted, make_config, workdirs
):
    workdir = workdirs()
    shutil.copytree(uninterrupted, workdir)
    shutil.rmtree(workdir / "adapt-1.2x")
    for path in workdir.rglob("*.sha256"):
        path.unlink()
    config = json.loads((workdir / "run.json").read_text())
    for field in ("class_weight", "balanced_sampling"):  # which it did not have
        del config[field]
    del config["finetune"]["early_stopping_patience"]
    (workdir / "run.json").write_text(json.dumps(config))
    for path in workdir.rglob("metrics.jsonl"):
        path.write_text(re.sub(r', "crc": \d+', "", path.read_text()))
    run_all(make_config(**RUN), workdir, log=silent)
    assert phases.read_done(workdir / "adapt-1.2x") == phases.read_done(
        uninterrupted / "adapt-1.2x"
    )


def test_a_fine_tuned_model_is_validated_and_kept_and_the_run_goes_on(
    uninterrupted, make_config, workdirs
):
    workdir, model = workdirs(), uninterrupted / "finetune" / "model"
    config = make_config("finetuned", model=str(model), adapler__length_coef=3.0)
    run_all(config, workdir, log=silent)
    kept, start = load_model(workdir / "finetune" / "model"), load_model(model)
    assert_same_tree(kept.params, start.params)
    assert kept.class_names == start.class_names
    scores = [phases.read_done(run / "finetune")["validation"] for run in (workdir, uninterrupted)]
    assert scores[0] == scores[1]
    assert (
        phases.is_complete(workdir / "adapler")
        and not (workdir / "finetune" / "metrics.jsonl").exists()
    )


@pytest.fixture(name="grown", scope="module")
def _grown(uninterrupted, make_config, tmp_path_factory):
    """A finished run that gets one more epoch of fine-tuning, and its notes."""
    workdir, lines = tmp_path_factory.mktemp("grown") / "run", []
    shutil.copytree(uninterrupted, workdir)
    run_all(
        make_config(**RUN | {"finetune__num_epochs": 3}),
        workdir,
        log=lines.append,
        last_phase="finetune",
    )
    return workdir, lines


def test_a_finished_phase_is_given_more_epochs_by_one_field(uninterrupted, grown):
    workdir, lines = grown
    assert any(
        line.startswith("finetune: 2 epochs are finished; 1 more starts from its model")
        for line in lines
    )
    assert "saliency, adapler, adapt-1.2x: outdated, since finetune is trained on" in " ".join(
        lines
    )
    assert (workdir / "adapler.outdated" / "model").exists() and not (workdir / "adapler").exists()
    journal = read_metrics_log(workdir / "finetune")
    assert journal[: len(read_metrics_log(uninterrupted / "finetune"))] == read_metrics_log(
        uninterrupted / "finetune"
    )
    assert [line["epoch"] for line in journal if line["group"] == "validation"] == [1, 2, 3]
    assert phases.read_done(workdir / "finetune")["num_epochs"] == 3
    best = max(line["score"] for line in journal if line["group"] == "validation")
    assert phases.read_done(workdir / "finetune")["validation"]["score"] == best
    assert (
        not (workdir / "finetune" / "last").exists()
        and not (workdir / "finetune" / "continued.json").exists()
    )


def test_more_epochs_that_were_killed_end_as_undisturbed_ones(
    uninterrupted, grown, make_config, workdirs, run_killed_at
):
    workdir = workdirs()
    shutil.copytree(uninterrupted, workdir)
    config = make_config(**RUN | {"finetune__num_epochs": 3})
    run_killed_at(config, workdir, ("finetune",), ((2, 0), (5, 0)))
    run_all(config, workdir, log=silent, last_phase="finetune")
    assert phases.read_done(workdir / "finetune") == phases.read_done(grown[0] / "finetune")
    models = [load_model(run / "finetune" / "model").params for run in (workdir, grown[0])]
    assert_same_tree(*models)


def test_fewer_epochs_or_more_of_a_phase_that_is_not_finished_are_refused(
    uninterrupted, make_config, tmp_path
):
    here = {"finetune": {"num_epochs": 3}, "adapler": {"num_epochs": 2}}
    claim_workdir(tmp_path, here)
    check_workdir_config(tmp_path, here | {"adapler": {"num_epochs": 4}})  # not begun
    (tmp_path / "finetune").mkdir()
    for num_epochs in (2, 4):
        with pytest.raises(ValueError, match=f"finetune.num_epochs: 3 there, {num_epochs} now"):
            check_workdir_config(tmp_path, here | {"finetune": {"num_epochs": num_epochs}})
    (tmp_path / "finetune" / "done.json").write_text("{}")
    check_workdir_config(tmp_path, here | {"finetune": {"num_epochs": 4}})


def test_training_ends_early_without_a_better_epoch_and_a_restart_decides_alike(
    make_config, workdirs, run_killed_at
):
    """An epoch as good as the best one is no better."""
    changes = {
        "method": "finetune",
        "finetune__num_epochs": 9,
        "finetune__early_stopping_patience": 2,
    }
    undisturbed, torn = workdirs(), workdirs()
    config = make_config(**changes, finetune__learning_rate=3e-2)
    run_all(config, undisturbed, log=silent)
    scores = [
        line["score"]
        for line in read_metrics_log(undisturbed / "finetune")
        if line["group"] == "validation"
    ]
    assert len(scores) == scores.index(max(scores)) + 3 < 9
    run_killed_at(config, torn, ("finetune",), ((14, 0),))
    run_all(config, torn, log=silent)
    assert read_metrics_log(torn / "finetune") == read_metrics_log(undisturbed / "finetune")
    assert phases.read_done(torn / "finetune") == phases.read_done(undisturbed / "finetune")


def test_a_search_that_drops_nothing_by_its_measured_speedup_says_so():
    """Texts are shorter than max_length: a retention below it may drop nothing."""
    done = {
        "validation": {"score": 0.8, "flops_speedup": 1.02},
        "max_length": 16,
        "retention": [16, 9, 9, 9],
    }
    assert "nothing is dropped: raise config.powerbert.rank_l1_coef or" in describe(done)
    assert "nothing is dropped" not in describe(
        done | {"validation": {"score": 0.8, "flops_speedup": 1.3}}
    )


def test_a_speedup_that_is_out_of_reach_is_said():
    scores = {"score": 0.8, "flops_speedup": 3.0, "kept_tokens": [2.0, 1.0]}
    done = {"validation": scores, "at_limit": True}
    assert "3.00x, short of 50x even with the highest thresholds" in describe(
        done | {"target_speedup": 50.0}
    )
    assert "short of" not in describe(done | {"target_speedup": 3.0})
    assert "short of 3.1x, tokens" in describe(done | {"target_speedup": 3.1, "at_limit": False})
    told = describe(done | {"target_speedup": 50.0, "is_reached": False})
    assert told.startswith(
        "50x is out of reach: validation score 80.0, FLOPs speedup 3.00x with the"
    )
    assert "short" not in told and "scaled" not in told and len(told) < 230


@pytest.mark.parametrize(
    ("asked", "at_lowest", "told"),
    [
        (
            2.0,
            True,
            "faster than the target 2x (the model drops more already, and thresholds cannot",
        ),
        (2.0, False, "faster than the target 2x (no thresholds that were tried come nearer)"),
        (2.9, False, ""),
    ],
)
def test_a_model_that_is_faster_than_asked_is_said(tmp_path, asked, at_lowest, told):
    scores = {"score": 0.8, "flops_speedup": 3.0}
    done = {
        "validation": scores,
        "target_speedup": asked,
        "at_limit": False,
        "at_lowest": at_lowest,
    }
    assert told in describe(done) and ("faster" in describe(done)) == bool(told)
    (tmp_path / "adapt-2x" / "model").mkdir(parents=True)
    replace_text(tmp_path / "adapt-2x" / "done.json", json.dumps(done), checksum=True)
    row = closing_lines(tmp_path, ["adapt-2x"])[2]
    assert row.endswith(f"model (faster than the target {asked:g}x)" if told else "model")


def test_a_model_that_is_not_fine_tuned_is_refused_with_the_reason():
    config = adapler.get_config("custom,finetuned")
    config.model = "org/plain"
    fresh = {"pooler": "the checkpoint has none", "classifier": "it needs the missing pooler"}
    with pytest.raises(ValueError) as caught:
        check_finetuned(config, fresh, ("bad", "good"))
    assert str(caught.value) == (
        "org/plain has no pooler and classifier for this task (the checkpoint has none; it needs "
        "the "
        "missing pooler), so there is nothing to take as fine-tuned; leave out ,finetuned "
        "(config.finetune.num_epochs=0), or give a model with a classifier of bad, good"
    )
    check_finetuned(config, {}, ("bad", "good"))


def test_a_missing_source_is_said_before_the_model_is_looked_up():
    config = adapler.get_config("custom")
    config.model = "/no/such/model"
    with pytest.raises(
        ValueError, match="task 'custom' has no source of its own; set config.data.source"
    ):
        load_run_context(config, log=silent)
    config.data.sources = {"train": "file:a.csv"}
    with pytest.raises(ValueError, match="/no/such/model"):
        load_run_context(config, log=silent)


def closing_lines(workdir, names):
    """Return the `summary` of a run of two classes."""
    task = types.SimpleNamespace(metric="accuracy", majority={"validation": 0.6})
    return summary(workdir, names, types.SimpleNamespace(task=task, splits=["validation"]))


@pytest.mark.parametrize(("speedup", "is_told"), [(1.04, True), (1.06, False)])
def test_a_run_that_drops_nothing_ends_with_what_to_do(tmp_path, speedup, is_told):
    for name in ("finetune", "adapler"):
        done = {
            "validation": {"score": 0.8, "flops_speedup": 1.0 if name == "finetune" else speedup}
        }
        (tmp_path / name).mkdir()
        replace_text(tmp_path / name / "done.json", json.dumps(done), checksum=True)
    lines = closing_lines(tmp_path, ["finetune", "adapler", "adapt-2x"])
    found = [line for line in lines if line.startswith("nothing is dropped yet: ask for a speedup")]
    assert len(found) == is_told
    assert not any("nothing is dropped" in line for line in closing_lines(tmp_path, ["finetune"]))


def test_batch_lengths_above_the_maximum_fall_away(uninterrupted, make_config, workdirs):
    """Saliency has a row of max_length an example."""
    workdir, model = workdirs(), str(uninterrupted / "finetune" / "model")
    config = make_config("finetuned", model=model, data__max_length=9, data__bucket_lengths=(6, 16))
    run_all(config, workdir, log=silent, last_phase="saliency")
    assert load_saliency(workdir / "saliency").saliency.shape == (96, 9)


def test_a_second_process_on_the_workdir_is_refused_and_none_is_after_a_kill(make_config, workdirs):
    workdir, config = workdirs(), make_config(method="finetune")
    workdir.mkdir()
    hold = "import sys, pathlib; from adapler_jax.training.workdir import only_process\n"
    hold += (
        "with only_process(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    (workdir / "run.json").write_text(json.dumps(config.to_dict()))
    with subprocess.Popen(
        [sys.executable, "-c", hold, workdir], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="another process trains there"):
            run_all(config, workdir, log=silent)
        holder.kill()
    run_all(config, workdir, log=silent)
    assert phases.is_complete(workdir / "finetune")


def test_a_folder_of_other_things_is_refused(make_config, workdirs):
    workdir = workdirs()
    workdir.mkdir()
    (workdir / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not empty"):
        run_all(make_config(), workdir, log=silent)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_and_step(make_config, workdirs):
    with pytest.raises(
        FloatingPointError, match=r"finetune: task is nan at step \d+; train in a new workdir"
    ):
        run_all(make_config(finetune__learning_rate=1e30), workdirs(), log=silent)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"method": "lstm"}, "config.method is 'lstm'; expected finetune or adapler"),
        ({"compute_dtype": "float8"}, "config.compute_dtype is 'float8'"),
        ({"adapler__init_from": "scratch"}, "config.adapler.init_from is 'scratch'"),
        (
            {"adapler__checkpoint_selection": "first"},
            "config.adapler.checkpoint_selection is 'first'",
        ),
        (
            {"adapler__slope_schedule": "cubic"},
            "config.adapler.slope_schedule is 'cubic'; expected geometric or epochs",
        ),
        ({"finetune__batch_size": 0}, "config.finetune.batch_size is 0; expected 1 or more"),
        (
            {"saliency__num_checkpoints": 2},
            "config.saliency.num_checkpoints is 2, but only config.finetune.num_checkpoints = 1",
        ),
        (
            {"adapt__target_speedups": (-1.0,)},
            "config.adapt.target_speedups holds -1.0; expected factors of 1 or more",
        ),
        (
            {"adapt__target_speedups": (0.8,)},
            "config.adapt.target_speedups holds 0.8; expected factors of 1 or more, as",
        ),
        ({"class_weight": "equal"}, "config.class_weight is 'equal'; expected none or balanced"),
        (
            {"class_weight": "balanced", "balanced_sampling": True},
            "both make up for the sizes of classes; give one",
        ),
        (
            {"finetune__early_stopping_patience": -1},
            "finetune.early_stopping_patience is -1; expected 0 or more",
        ),
        ({"finetune__num_epochs": -1}, "config.finetune.num_epochs is -1; expected 0 or more"),
        ({"adapler__num_epochs": 0}, "config.adapler.num_epochs is 0; expected 1 or more"),
        (
            {"finetune__num_epochs": 0, "reinit_head": True},
            "config.reinit_head=True gives .* leave out ,finetuned",
        ),
        ({"adapt__target_speedups": ("fast",)}, "config.adapt.target_speedups holds 'fast'"),
        ({"adapt__target_speedups": (True,)}, "config.adapt.target_speedups holds True"),
        (
            {"adapt__target_speedups": (2.0, 2.0000001)},
            "config.adapt.target_speedups names a phase twice: adapt-2x, adapt-2x",
        ),
        (
            {"adapler__length_target": 75.0},
            "length_target is 75.0; with relative_length=True it is a fraction, at most 1",
        ),
        (
            {"adapler__relative_length": False},
            "length_target is 0.5; with relative_length=False it is tokens summed",
        ),
        (
            {"adapler__learning_rate": -1e-3},
            "config.adapler.learning_rate is -0.001; expected a finite number",
        ),
        (
            {"finetune__hidden_dropout_prob": 1.0},
            "config.finetune.hidden_dropout_prob is 1.0; expected less than 1",
        ),
        ({"data__bucket_lengths": (4,)}, "bucket 4 cannot hold .*config.data.bucket_lengths"),
        ({"data__bucket_lengths": ("a", 16)}, "config.data.bucket_lengths is \\('a', 16\\)"),
        (
            {"inference__buckets": (2, 8)},
            "bucket 8 cannot hold 16 kept tokens; add a larger size to .*buckets",
        ),
        ({"adapler__slope_start": 0.99}, "config.adapler.slope_start is 0.99; expected 1.0 to"),
        ({"adapler__slope_start": 0.0}, "config.adapler.slope_start is 0.0; expected 1.0 to"),
        ({"adapler__distil_coef": 3.0}, "config.adapler.distil_coef is 3.0; expected 0.0 to 1.0"),
        (
            {"adapler__initial_threshold": -1.0},
            "config.adapler.initial_threshold is -1.0; expected 0.01 to 1.0",
        ),
        (
            {"inference__buckets": ("short",)},
            "config.inference.buckets is .'short',.; expected positive numbers",
        ),
        (
            {"inference__buckets": (0, 16)},
            "config.inference.buckets is .0, 16.; expected positive numbers",
        ),
        (
            {"inference__buckets": (16, 8)},
            "config.inference.buckets is .16, 8.; expected .* in increasing order",
        ),
        (
            {"inference__driver": "turbo"},
            "config.inference.driver is 'turbo'; expected auto or bucketed or",
        ),
        (
            {
                "data__max_length": 20,
                "data__bucket_lengths": (8, 16),
                "inference__buckets": (4, 16),
            },
            "bucket 16 cannot hold 20 kept tokens",
        ),
        (
            {"data__sources": {"test": 5}},
            "config.data.sources holds 5 for test; expected a source",
        ),
        ({"finetune__clip_norm": -1.0}, "config.finetune.clip_norm is -1.0; expected 0.0 or more"),
        (
            {"adapler__length_target": -0.1},
            "config.adapler.length_target is -0.1; expected 0.0 or more",
        ),
        (
            {"adapler__threshold_noise": 6.0},
            "config.adapler.threshold_noise is 6.0; expected 0.0 to 5.0",
        ),
        ({"seed": -1}, "config.seed is -1; expected 0 to 4294967295"),
        ({"seed": 2**40}, "config.seed is 1099511627776; expected 0 to 4294967295"),
        ({"task": "ssst2"}, "ssst2"),
        ({"model": "/no/such/model"}, "/no/such/model"),
    ],
)
def test_a_wrong_field_is_named_before_any_training(make_config, workdirs, change, message):
    workdir = workdirs()
    with pytest.raises((ValueError, OSError), match=message):
        run_all(make_config(**change), workdir, log=silent)
    assert not workdir.exists()  # so that a corrected call can use the workdir


def test_a_full_disk_is_said_before_a_checkpoint_and_the_run_goes_on_later(
    make_config, workdirs, monkeypatch
):
    workdir, config = workdirs(), make_config(method="finetune")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=1000))
        with pytest.raises(
            OSError,
            match=r"finetune: a checkpoint needs 2\.\d MiB and the disk has 0\.0 left; make room",
        ):
            run_all(config, workdir, log=silent)
    run_all(config, workdir, log=silent)
    assert phases.is_complete(workdir / "finetune")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_fills_up_between_checkpoints_gives_one_error(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        with MetricsLog(tmp_path, start_step=0, num_steps=1, label="adapler") as journal:
            journal._file.close()
            journal._file = open("/dev/full", "w")
            journal.write(1, "train", {"main": 0.5})


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


def test_the_faithful_preset_runs(make_config, workdirs):
    workdir = workdirs()
    config = make_config(
        "paper", finetune__num_epochs=3, adapler__num_epochs=3, adapler__checkpoint_selection="last"
    )
    run_all(config, workdir, log=silent)
    assert len(phases.read_done(workdir / "saliency")["finetune_steps"]) == 3
    assert load_model(workdir / "adapler" / "model").pruner_name == "adapler"


def test_bfloat16_operands_train_too(make_config, workdirs):
    workdir = workdirs()
    run_all(
        make_config(compute_dtype="bfloat16", method="finetune", finetune__num_epochs=20),
        workdir,
        log=silent,
    )
    assert phases.read_done(workdir / "finetune")["validation"]["score"] > 0.9


def test_training_texts_that_fill_all_tokens_are_told():
    assert truncation_note(np.array([8] * 2 + [3] * 18), 8).startswith(
        "train: 2 of 20 texts fill 8 tokens and may be cut;"
    )
    assert truncation_note(np.array([8] + [3] * 39), 8) == ""


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
