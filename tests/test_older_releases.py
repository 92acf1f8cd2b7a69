"""Models and workdirs of release 0.1 load, predict and continue with the numbers of that release.

`tests/fixtures/release_0_1/README.md` says how the files were made. The files never change.
Only the names in this test do.
"""

import copy
import json
import pathlib
import re
import shlex
import shutil
import sys

import ml_collections
import pytest
from absl import flags
from ml_collections import config_flags

from adapler_jax.heads import Head
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.drivers import stages
from adapler_jax.inference.question_answerer import QuestionAnswerer
from adapler_jax.presets import old_names
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.finished import finished_phases, unfinished_phases
from adapler_jax.training.run import run_all, with_present_names
from adapler_jax.training.workdir import read_seconds
from adapler_jax.weights.save import load_model, save_model
from configs import adapler
from tests.tiny import assert_trees_equal
from tests.training.runs import silent

RELEASE = pathlib.Path(__file__).parent / "fixtures" / "release_0_1"
CONFIGS = pathlib.Path(__file__).parents[1]  # the folder that holds configs/
FLAG = re.compile(r"--config\.([\w.]+)=")
CONFIG_FILE = re.compile(r"--config=configs/(\w+)\.py")
EXPECTED = json.loads((RELEASE / "expected.json").read_text())
RUNS = tuple(EXPECTED["finished"])
TOLERANCE = 1e-5
# The bias of start and end logits has no gradient but rounding errors, of which AdamW makes steps.
# It shifts the score, a sum of two logits, and no probability.
QA_SCORE_TOLERANCE = 1e-4
# The flag parser of ml_collections loads config files by an older function of importlib.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*option names of release 0.1:FutureWarning"),
]


@pytest.fixture(autouse=True)
def _counts_of_release_0_1(monkeypatch):
    """That release ran a site in the last layer, and counted every token of it."""
    monkeypatch.setattr(stages, "for_first_token", lambda pruner, config: pruner)
    monkeypatch.setattr(
        Head,
        "flops_options",
        lambda head, params, config, length: {"head": head.flops(params["head"], config, length)},
    )


def new_phase(name):
    """Return the present name of a method, or of the phase that has its name."""
    return old_names.METHODS.get(name, name)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Copy the files into an empty directory and enter it, so that relative paths hold."""
    shutil.copytree(RELEASE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(command, monkeypatch):
    """Return the config and the workdir of a recorded command, parsed as train.py does."""
    command = FLAG.sub(lambda flag: f"--config.{old_names.new_field(flag[1])}=", command)
    command = CONFIG_FILE.sub(
        lambda file: f"--config={CONFIGS}/configs/{new_phase(file[1])}.py", command
    )
    arguments = shlex.split(command)[1:]
    monkeypatch.setattr(sys, "argv", arguments)  # config_flags looks for the fields there
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    workdir = flags.DEFINE_string("workdir", None, "directory of the run", flag_values=values)
    values(arguments)
    return config.value, workdir.value


def assert_near(found, expected, where, tolerance=TOLERANCE):
    """Compare numbers within the tolerance and all else exactly; ignore keys that are new today."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_near(found[name], value, f"{where}.{name}", tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_near(found[index], value, f"{where}[{index}]", tolerance)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance), where
    else:
        assert found == expected, where


def predict(directory, *, is_qa):
    """Return what a saved model predicts, in the form of the expected file."""
    if not is_qa:
        return [
            {
                "label": found.label,
                "probabilities": found.probabilities,
                "num_tokens": list(found.num_tokens),
            }
            for found in Classifier.load(directory).predict(EXPECTED["texts"])
        ]
    answers = QuestionAnswerer.load(directory).answer_all(
        [tuple(pair) for pair in EXPECTED["pairs"]]
    )
    return [
        {
            "text": found.text,
            "start": found.start,
            "end": found.end,
            "score": found.score,
            "probability": found.probability,
            "kept": found.keep_NW.sum(axis=1).tolist(),
        }
        for found in answers
    ]


def assert_predictions(workdir, run, expected, tolerance=TOLERANCE):
    """Compare the predictions of some phases' models with the expected ones."""
    for phase, predictions in expected.items():
        found = predict(workdir / phase / "model", is_qa=run == "reading")
        assert_near(found, predictions, phase, tolerance)


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS)
def test_saved_models_predict_what_they_predicted(release, run):
    expected = EXPECTED["finished"][run]["predictions"]
    if run not in ("finetune", "reading"):
        expected = {phase: found for phase, found in expected.items() if phase != "finetune"}
    assert_predictions(release / "finished" / run, run, expected)


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS)
def test_an_interrupted_run_continues_to_the_same_numbers(release, monkeypatch, run):
    shutil.unpack_archive(RELEASE / "interrupted" / f"{run}.zip", release)
    directory = release / "interrupted" / run
    config, workdir = config_of((directory / "commands.txt").read_text(), monkeypatch)
    if "adapt" in config:
        config.adapt.train = "always"  # the old release did, where the target was faster
    notes = []
    run_all(config, workdir, log=notes.append)
    expected = copy.deepcopy(EXPECTED["continued"][run])
    for phase, done in expected["done"].items():
        found = json.loads((directory / new_phase(phase) / "done.json").read_text())
        if "trained_on" in found:  # a tie: the model of the old release is scored but not kept
            assert done["trained"] and found["kept"] == "scaled"
            assert found["trained_on"] == pytest.approx(
                {name: done["validation"][name] for name in found["trained_on"]}, rel=TOLERANCE
            )
            del expected["predictions"][phase]
        else:
            assert_near(found, done, phase)
    assert any("was begun with release 0.1" in note for note in notes)
    tolerance = QA_SCORE_TOLERANCE if run == "reading" else TOLERANCE
    predictions = {new_phase(phase): found for phase, found in expected["predictions"].items()}
    assert_predictions(directory, run, predictions, tolerance)


@pytest.mark.long
@pytest.mark.parametrize("run", ["adapler", "reading"])
def test_a_finished_run_is_evaluated_to_the_same_scores(release, run):
    rows = evaluate_workdir(pathlib.Path("finished") / run, log=silent, with_times=False)
    assert_near(rows, EXPECTED["finished"][run]["evaluation"], run)


@pytest.mark.parametrize("run", RUNS)
def test_the_command_of_a_finished_run_finds_nothing_to_do(release, monkeypatch, run):
    directory, notes = release / "finished" / run, []
    config, workdir = config_of((directory / "commands.txt").read_text(), monkeypatch)
    run_all(config, workdir, log=notes.append)
    done = EXPECTED["finished"][run]["done"]
    assert {f"{new_phase(phase)}: finished before" for phase in done} <= set(notes)


def test_option_names_of_the_old_release_warn_until_the_model_is_saved_again(release, tmp_path):
    with pytest.warns(FutureWarning, match="config.json has option names of release 0.1"):
        old = load_model(release / "finished" / "reading" / "adapler" / "model")
    kept = {"pruner_name": old.pruner_name, "head": old.head, "extra": old.extra}
    save_model(tmp_path / "new", old.params, old.config, **kept)
    assert load_model(tmp_path / "new").extra == old.extra


def test_a_run_is_read_where_it_is_and_a_link_has_the_old_name_once_it_continues(
    release, monkeypatch
):
    workdir = release / "finished" / "distil"
    assert finished_phases(workdir)["distill"] == workdir / "distil"
    assert not unfinished_phases(workdir) and not (workdir / "distill").exists()
    assert "distill" in read_seconds(workdir)
    config, typed = config_of((workdir / "commands.txt").read_text(), monkeypatch)
    run_all(config, typed, log=silent)
    assert (workdir / "distil").is_symlink() and not (workdir / "distill").is_symlink()
    assert finished_phases(workdir)["distill"] == workdir / "distill"
    assert_trees_equal(*(load_model(workdir / n / "model").params for n in ("distil", "distill")))


def test_a_config_with_old_fields_is_read_with_a_note():
    fields = adapler.get_config("custom,debug").to_dict()
    fields["finetune"]["warmup_share"] = 0.25
    fields["data"]["carve"] = {"validation": 0.5}
    notes = []
    found = with_present_names(ml_collections.ConfigDict(fields), notes.append)
    assert found.finetune.warmup_ratio == 0.25 and "warmup_share" not in found.finetune
    assert found.data.split_fractions.to_dict() == {"validation": 0.5} and found.is_locked
    assert notes == [
        "config.data.carve is now config.data.split_fractions",
        "config.finetune.warmup_share is now config.finetune.warmup_ratio",
    ]
