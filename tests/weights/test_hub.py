"""Names on the hub, with the client replaced: no test touches a network."""

import fnmatch

import huggingface_hub
import pytest

from adapler_jax.io.atomic_directories import temporary_sibling
from adapler_jax.weights.hub import resolve_model


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Record the requested patterns; a download makes a PyTorch file on request."""
    found = []

    def snapshot_download(name, allow_patterns):
        found.append(allow_patterns)
        if any(pattern.endswith(".bin") for pattern in allow_patterns):
            (tmp_path / "pytorch_model.bin").touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return found


def test_local_directory_is_not_asked_for_on_the_hub(calls, tmp_path, monkeypatch):
    assert resolve_model(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path.parent)
    assert resolve_model(tmp_path.name).resolve() == tmp_path
    assert calls == []


def test_formats_are_fetched_one_after_the_other_until_there_are_weights(calls, tmp_path):
    assert resolve_model("somebody/model") == tmp_path
    assert len(calls) == 2
    assert "model*.safetensors" in calls[0]
    assert "pytorch_model*.bin" in calls[1]
    assert all("config.json" in patterns and "vocab.txt" in patterns for patterns in calls)


def test_unreachable_hub_is_a_clear_error(monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise ConnectionError("no\nroute. If you are behind a proxy, then\n... much more.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    message = "'somebody/model' is no local directory .*ConnectionError: no route[)]; check"
    with pytest.raises(ValueError, match=message) as caught:
        resolve_model("somebody/model")
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("path", ["/no/such/directory", "./missing", "a/b/c", "~/missing-model"])
def test_what_can_only_be_a_path_is_not_asked_for_on_the_hub(calls, path):
    with pytest.raises(ValueError, match="does not exist"):
        resolve_model(path)
    assert calls == []


def test_file_instead_of_a_directory_is_refused(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="is a file; give the model directory"):
        resolve_model(tmp_path / "model.safetensors")


def test_the_modules_of_sentence_transformers_are_fetched_too(calls, tmp_path):
    (tmp_path / "model.safetensors").touch()
    resolve_model("somebody/model")
    wanted = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    wanted += ("1_Pooling/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin")
    for name in wanted:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in calls[0]), name
    assert not any(fnmatch.fnmatch("onnx/model.onnx", pattern) for pattern in calls[0])


def test_a_promise_is_fetched_with_its_full_model(calls, tmp_path):
    (tmp_path / "model.safetensors").touch()
    resolve_model("somebody/model")
    assert {"calibration.json", "full/*"} <= set(calls[0])


def test_a_save_that_was_interrupted_counts_as_a_directory(calls, tmp_path):
    previous = temporary_sibling(tmp_path / "model", "previous")
    previous.mkdir()
    assert resolve_model(tmp_path / "model") == previous
    assert calls == []
