"""Training and evaluation commands of README.md and docs/*.md run in debug size on a tiny model.

The commands of a document run in order in one folder, then its Python.
"""

import re

import jax
import pytest

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import init_classifier
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import save_model
from tests.data.conftest import build_tokenizer
from tests.docs.commands import (
    DOCUMENTS,
    ROOT,
    blocks,
    check_of,
    find_commands,
    in_small,
    make_sandbox,
    run,
)
from tests.marks import mostly_long

ENCODER = EncoderConfig(
    num_layers=6,
    num_heads=2,
    hidden_dim=16,
    ffn_dim=32,
    vocab_size=15,
    num_positions=64,
    init_std=0.2,
)  # six layers, because a student takes three of them
PATTERNS = ("a {} film .", "{} films", "not a {} .")
TEXTS = 20 * [(pattern.format(label), label) for label in ("bad", "good") for pattern in PATTERNS]
RUNS = {path: [c for c in find_commands(path) if check_of(c) == "run"] for path in DOCUMENTS}
README, *_ = DOCUMENTS
DOCS = ROOT / "docs"
# Documents whose commands train the models for the Python of documents.
PYTHON = {
    README: (README, DOCS / "serving.md"),
    DOCS / "question-answering.md": (DOCS / "question-answering.md",),
}


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint") / "model"
    encoder_key, head_key = jax.random.split(jax.random.key(0))
    head = init_classifier(head_key, ENCODER, 2)
    params = {"encoder": init_encoder(encoder_key, ENCODER), "head": head, "pruner": {}}
    save_model(directory, params, ENCODER, tokenizer=build_tokenizer(), class_names=("bad", "good"))
    return directory


@pytest.mark.docs
@pytest.mark.parametrize(
    "path",
    mostly_long([path for path in DOCUMENTS if RUNS[path]], quick=[README]),
    ids=lambda path: path.name,
)
def test_training_and_evaluation_commands_run_in_small(path, model, tmp_path):
    make_sandbox(tmp_path, model, TEXTS)
    for command in RUNS[path]:
        done = run(in_small(command)[1:], tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    for document in PYTHON.get(path, ()):
        for line, language, content in blocks(document.read_text()):
            if language == "python":
                done = run(["-c", content], tmp_path)
                assert done.returncode == 0, f"{document.name}:{line}\n{done.stderr[-2000:]}"


def test_evaluation_follows_the_training_of_its_workdir():
    for path, commands in RUNS.items():
        trained = set()
        for command in commands:
            (workdir,) = [word for word in command.words if re.match("--workdir=", word)]
            assert command.words[1] == "train.py" or workdir in trained, f"{path.name}: {command}"
            trained.add(workdir)
