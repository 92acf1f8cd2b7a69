"""Give tests a random checkpoint, texts whose label one word decides, and finished runs."""

import itertools
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import init_classifier
from adapler_jax.training import phases
from adapler_jax.training.run import run_all
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import save_model
from configs import adapler as adapler_config
from tests.data.conftest import build_tokenizer
from tests.training.runs import RUNS, make_once, silent

ENCODER = EncoderConfig(
    num_layers=4,
    num_heads=2,
    hidden_dim=16,
    ffn_dim=32,
    vocab_size=15,
    num_positions=16,
    init_std=0.2,
)


def write_checkpoint(directory, seed=0):
    encoder_key, head_key = jax.random.split(jax.random.key(seed))
    params = {
        "encoder": init_encoder(encoder_key, ENCODER),
        "head": init_classifier(head_key, ENCODER, 2),
        "pruner": {},
    }
    save_model(directory, params, ENCODER, tokenizer=build_tokenizer(), class_names=("bad", "good"))


def write_texts(path, num_rows, seed):
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(num_rows):
            label = int(rng.integers(2))
            words = [
                str(word) for word in rng.choice(["a", "film", "films", "."], rng.integers(2, 9))
            ]
            words[int(rng.integers(len(words)))] = ("bad", "good")[label]
            file.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")


def write_tiny_files(root):
    write_checkpoint(root / "model")
    (root / "data").mkdir()
    for seed, (split, num_rows) in enumerate({"train": 96, "validation": 32, "test": 32}.items()):
        write_texts(root / "data" / f"{split}.jsonl", num_rows, seed)


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory):
    """The directory that all test processes share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def tiny_files(shared_directory):
    """A folder with `model/` and `data/{train,validation,test}.jsonl`."""
    return make_once(shared_directory / "tiny", write_tiny_files)


@pytest.fixture(scope="session")
def make_config(tiny_files):
    """Return a function that builds a run's config on the tiny files.

    Keywords are "section.field" with double underscores for dots.
    """

    def make(variant="", *, module=adapler_config, **changes):
        config = module.get_config(f"custom,{variant},debug" if variant else "custom,debug")
        config.model = str(tiny_files / "model")
        config.data.source = f"file:{tiny_files / 'data'}"
        config.data.class_names = ("bad", "good")
        config.data.num_train_examples = 0
        config.data.max_length = 16
        config.data.bucket_lengths = (16,)
        config.finetune.learning_rate = 1e-2
        config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in changes.items()}
        )
        return config.lock()  # locked by the commands too

    return make


@pytest.fixture(scope="session")
def copied_run(make_config, shared_directory, tmp_path_factory):
    """Return a function that gives a copy of a method's finished run of `RUNS`."""

    def copy(method):
        run = RUNS[method]
        original = make_once(
            shared_directory / f"finished-{method}",
            lambda workdir: run_all(
                make_config(module=run.module, **run.changes), workdir, log=silent
            ),
        )
        workdir = tmp_path_factory.mktemp(method) / "run"
        shutil.copytree(original, workdir)
        return workdir

    return copy


@pytest.fixture
def workdirs(tmp_path):
    """Fresh workdirs, one a call."""
    numbers = itertools.count()
    return lambda: tmp_path / f"run{next(numbers)}"


class Killed(BaseException):
    """Represents a kill: nothing in the library may catch it."""


@pytest.fixture
def killed_at_call(monkeypatch):
    """Return a function that raises at one write, rename or removal, and counts them."""

    def run(kill, function):
        calls = []

        def counted(original):
            def call(*args, **kwargs):
                calls.append(original)
                if len(calls) == kill:
                    raise Killed
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in ("replace", "rename", "unlink", "rmdir", "open", "mkdir"):
                patch.setattr(os, name, counted(getattr(os, name)))
            patch.setattr(pathlib.Path, "write_text", counted(pathlib.Path.write_text))
            try:
                function()
            except Killed:
                pass
        return len(calls)

    return run


@pytest.fixture
def run_killed_at(monkeypatch):
    """Return a function that starts a run and continues it after kills.

    A kill is a batch number, over the phases of its start, and the number of phases done by then.
    """

    def run_killed_once(config, workdir, step_of_kill):
        batches, taken = phases.train_batches, []

        def killing(*args, **kwargs):
            for batch in batches(*args, **kwargs):
                taken.append(batch)
                if len(taken) == step_of_kill:
                    raise Killed
                yield batch

        with monkeypatch.context() as patch:
            patch.setattr(phases, "train_batches", killing)
            with pytest.raises(Killed):
                run_all(config, workdir, log=silent)

    def run(config, workdir, names, kills):
        for step_of_kill, num_done in kills:
            run_killed_once(config, workdir, step_of_kill)
            assert [name for name in names if phases.is_complete(workdir / name)] == list(
                names[:num_done]
            )

    return run
