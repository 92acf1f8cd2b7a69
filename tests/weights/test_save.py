"""Saved model directories: exact round trips, and nothing lost when a save fails."""

import errno
import json
import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import init_classifier
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import CALIBRATION_FILE
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.section import FORMAT
from tests.tiny import assert_trees_equal

CONFIG = EncoderConfig(
    num_layers=4,
    num_heads=2,
    hidden_dim=16,
    ffn_dim=24,
    vocab_size=50,
    num_positions=12,
    num_segments=1,
    activation="gelu_new",
    norm_epsilon=1e-6,
)
NAMES = ("bad", "so-so", "good")


def make_params(seed=0, *, with_predictors=True):
    """Return random numbers in the shapes of a whole tree; NumPy compiles nothing."""
    pruner = {
        "hidden": {"kernel": np.empty((4, 16, 5)), "bias": np.empty((4, 5))},
        "score": {"kernel": np.empty((4, 5, 1)), "bias": np.empty((4, 1))},
        "threshold_N": np.empty(4),
        "cls_ratio_N": np.empty(4),
    }
    shapes = {
        "encoder": jax.eval_shape(lambda: init_encoder(jax.random.key(0), CONFIG)),
        "head": jax.eval_shape(lambda: init_classifier(jax.random.key(0), CONFIG, 3)),
        "pruner": pruner if with_predictors else {},
    }
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


@pytest.fixture
def tokenizer_dir(tmp_path):
    directory = tmp_path / "tokenizer"
    directory.mkdir()
    (directory / "vocab.txt").write_text("[PAD]\n[CLS]\n")
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "model.safetensors").write_text("not a tokenizer file")
    return directory


def test_round_trip_is_exact(tmp_path, tokenizer_dir):
    params = make_params()
    written = save_model(
        tmp_path / "deep" / "model",
        params,
        CONFIG,
        pruner_name="adapler",
        class_names=NAMES,
        max_length=11,
        task="reviews",
        tokenizer=tokenizer_dir,
        extra={"operating_point": 0.5},
    )
    saved = load_model(written)
    assert_trees_equal(saved.params, params)
    assert saved.config == CONFIG
    assert (saved.pruner_name, saved.class_names, saved.max_length, saved.task) == (
        "adapler",
        NAMES,
        11,
        "reviews",
    )
    assert saved.extra == {"operating_point": 0.5}
    assert saved.directory == written
    found = {path.name for path in written.iterdir()}
    assert found == {
        "config.json",
        "modeling_adapler.py",
        "model.safetensors",
        "vocab.txt",
        "tokenizer_config.json",
        "README.md",
    }
    assert [path.name for path in written.parent.iterdir()] == ["model"]


def test_dense_model_round_trip_is_exact(tmp_path):
    params = make_params(with_predictors=False)
    saved = load_model(save_model(tmp_path / "model", params, CONFIG))
    assert_trees_equal(saved.params, params)
    assert (saved.pruner_name, saved.class_names) == ("keep_all", ("LABEL_0", "LABEL_1", "LABEL_2"))


def test_file_holds_published_names_and_float32(tmp_path):
    directory = save_model(
        tmp_path / "model", make_params(), CONFIG, pruner_name="adapler", class_names=NAMES
    )
    with safetensors.safe_open(directory / "model.safetensors", framework="numpy") as file:
        names = set(file.keys())
        assert file.metadata() == {"format": "pt"}
        assert {str(file.get_tensor(name).dtype) for name in names} == {"float32"}
    assert len(names) == 5 + 4 * 16 + 4 + 4 * 4 + 2
    expected = {
        "bert.pooler.dense.weight",
        "contribution_predictor.3.score.bias",
        "contribution_predictor.cls_ratio",
    }
    assert expected <= names
    raw = json.loads((directory / "config.json").read_text())
    assert raw["label2id"] == {"bad": 0, "so-so": 1, "good": 2}
    assert raw["model_type"] == "bert"


def test_others_may_read_the_weights_as_they_may_read_the_config(tmp_path):
    directory = save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="adapler")
    modes = {
        stat.S_IMODE((directory / name).stat().st_mode)
        for name in ("config.json", "model.safetensors")
    }
    assert len(modes) == 1


def test_saved_model_is_a_checkpoint_to_start_from(tmp_path):
    params = make_params()
    directory = save_model(
        tmp_path / "model", params, CONFIG, pruner_name="adapler", class_names=NAMES
    )
    loaded = load_pretrained(directory, jax.random.key(9))
    assert_trees_equal(loaded.params, {"encoder": params["encoder"], "head": params["head"]})
    assert loaded.notes == ("ignored: contribution_predictor.* (18 tensors)",)
    assert loaded.class_names == NAMES


def test_second_save_replaces_the_model_and_keeps_the_files_of_others(tmp_path, tokenizer_dir):
    directory = save_model(
        tmp_path / "model", make_params(0), CONFIG, pruner_name="adapler", tokenizer=tokenizer_dir
    )
    (directory / "README.md").write_text("mine")
    (directory / CALIBRATION_FILE).write_text("of the first model")
    (directory / "plots").mkdir()
    (directory / "plots" / "a.svg").write_text("mine too")
    save_model(directory, make_params(0), CONFIG, pruner_name="adapler", task="reviews")
    assert (directory / CALIBRATION_FILE).exists()
    second = make_params(1, with_predictors=False)
    save_model(directory, second, CONFIG)
    assert_trees_equal(load_model(directory).params, second)
    assert (directory / "README.md").read_text() == "mine"
    assert (directory / "plots" / "a.svg").read_text() == "mine too"
    assert (directory / "vocab.txt").exists() and not (directory / CALIBRATION_FILE).exists()
    (tokenizer_dir / "vocab.txt").rename(tokenizer_dir / "tokenizer.json")
    save_model(directory, second, CONFIG, tokenizer=tokenizer_dir)
    assert not (directory / "vocab.txt").exists()


def test_tokenizer_object_saves_itself(tmp_path):
    class Tokenizer:
        def save_pretrained(self, directory):
            (directory / "tokenizer.json").write_text("{}")

    directory = save_model(
        tmp_path / "model", make_params(), CONFIG, pruner_name="adapler", tokenizer=Tokenizer()
    )
    assert (directory / "tokenizer.json").read_text() == "{}"


def test_full_disk_keeps_the_previous_model(tmp_path, monkeypatch):
    first = make_params(0)
    directory = save_model(tmp_path / "model", first, CONFIG, pruner_name="adapler")

    def save_file(tensors, path, metadata):
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors.numpy, "save_file", save_file)
    with pytest.raises(
        OSError, match=r"was not saved in .*model; its previous content is intact: .*No space left"
    ):
        save_model(directory, make_params(1), CONFIG, pruner_name="adapler")
    assert_trees_equal(load_model(directory).params, first)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_error_of_the_writer_is_reported_as_the_disk_error_it_is(tmp_path, monkeypatch):
    def save_file(tensors, path, metadata):
        raise safetensors.SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", save_file)
    with pytest.raises(OSError, match="No space left on device"):
        save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="adapler")
    assert not any(tmp_path.iterdir())


def test_error_of_the_tokenizer_is_reported_as_the_disk_error_it_is(tmp_path):
    class Tokenizer:
        def save_pretrained(self, directory):
            raise Exception(
                "No space left on device (os error 28)"
            )  # the tokenizers package raises this

    with pytest.raises(
        OSError, match=r"was not saved in .*the tokenizer cannot be written: No space left"
    ):
        save_model(
            tmp_path / "model", make_params(), CONFIG, pruner_name="adapler", tokenizer=Tokenizer()
        )
    assert not any(tmp_path.iterdir())


def test_kill_while_writing_keeps_the_previous_model_and_the_next_save_cleans_up(tmp_path):
    first, second = make_params(0), make_params(1)
    directory = save_model(tmp_path / "model", first, CONFIG, pruner_name="adapler")
    partial = tmp_path / ".model.partial"  # left by a killed writer
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half a file")
    assert_trees_equal(load_model(directory).params, first)
    save_model(directory, second, CONFIG, pruner_name="adapler")
    assert_trees_equal(load_model(directory).params, second)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("new_one_in_place", [False, True])
def test_kill_between_the_renames_loses_nothing(tmp_path, new_one_in_place):
    first, second = make_params(0), make_params(1)
    directory = save_model(tmp_path / "model", first, CONFIG, pruner_name="adapler")
    directory.rename(tmp_path / ".model.previous")
    if new_one_in_place:
        save_model(tmp_path / "new", second, CONFIG, pruner_name="adapler").rename(directory)
    assert_trees_equal(load_model(directory).params, second if new_one_in_place else first)
    with pytest.raises(ValueError, match="holds no tokenizer"):  # a failing save heals, too
        save_model(directory, second, CONFIG, pruner_name="adapler", tokenizer=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert_trees_equal(load_model(directory).params, second if new_one_in_place else first)


def test_failed_rename_puts_the_previous_model_back(tmp_path, monkeypatch):
    first = make_params(0)
    directory = save_model(tmp_path / "model", first, CONFIG, pruner_name="adapler")
    path_type = type(directory)
    rename = path_type.rename

    def failing(self, target):
        if self.name.endswith(".partial"):
            raise PermissionError(errno.EACCES, "denied")
        return rename(self, target)

    monkeypatch.setattr(path_type, "rename", failing)
    with pytest.raises(OSError, match="denied"):
        save_model(directory, make_params(1), CONFIG, pruner_name="adapler")
    assert_trees_equal(load_model(directory).params, first)


def test_a_text_that_cannot_take_its_place_is_removed(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        replace_text(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_directories_of_others_are_not_replaced(tmp_path, write_checkpoint, tensors):
    checkpoint = write_checkpoint(tensors)
    before = (checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for directory in (checkpoint, tmp_path / "notes", tmp_path / "notes" / "a.txt"):
        with pytest.raises(ValueError, match="holds something else than a saved model"):
            save_model(directory, make_params(), CONFIG, pruner_name="adapler")
    assert (checkpoint / "model.safetensors").read_bytes() == before
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_params_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="pruner/hidden/kernel: unexpected"):
        save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="keep_all")
    with pytest.raises(ValueError, match=r"class_names .* do not fit a classifier of 3 classes"):
        save_model(
            tmp_path / "model", make_params(), CONFIG, pruner_name="adapler", class_names=("a", "b")
        )
    with pytest.raises(ValueError, match="class_names"):
        save_model(
            tmp_path / "model",
            make_params(),
            CONFIG,
            pruner_name="adapler",
            class_names=("a", "b", "b"),
        )
    with pytest.raises(ValueError, match="unknown pruner 'magic'"):
        save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="magic")
    assert not any(tmp_path.iterdir())


def test_damaged_or_foreign_directories_are_refused_by_load_model(
    tmp_path, write_checkpoint, tensors
):
    with pytest.raises(ValueError, match=r"config.json does not exist"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ValueError, match="not a saved model of this library. It is for whole"):
        load_model(write_checkpoint(tensors))
    directory = save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="adapler")
    weights_path, config_path = directory / "model.safetensors", directory / "config.json"
    data = weights_path.read_bytes()
    weights_path.write_bytes(data[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors .* is truncated or corrupt"):
        load_model(directory)
    weights_path.unlink()
    with pytest.raises(
        ValueError, match=r"model.safetensors does not exist; the model directory is incomplete"
    ):
        load_model(directory)
    raw = json.loads(config_path.read_text())
    for change, message in (
        ({"format": FORMAT + 1}, "this release reads"),
        ({"task": ...}, "lacks task"),
    ):
        changed = {
            key: value for key, value in (raw["adapler_jax"] | change).items() if value is not ...
        }
        config_path.write_text(json.dumps(raw | {"adapler_jax": changed}))
        with pytest.raises(ValueError, match=message):
            load_model(directory)


def test_tensors_missing_from_a_saved_model_are_all_named(tmp_path):
    directory = save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="adapler")
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    del tensors["contribution_predictor.threshold"], tensors["bert.pooler.dense.bias"]
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match="2 mismatches") as caught:
        load_model(directory)
    assert "contribution_predictor.threshold: missing, expected (4,)" in str(caught.value)
    assert "bert.pooler.dense.bias: missing, expected (16,)" in str(caught.value)
