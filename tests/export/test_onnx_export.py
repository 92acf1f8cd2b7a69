"""`export_onnx` writes the files that other programs expect, in one step."""

import dataclasses
import fnmatch
import json

import jax
import numpy as np
import onnx
import pytest

import adapler_jax
from adapler_jax.cli import export as cli_export
from adapler_jax.cli import main
from adapler_jax.export.onnx import export
from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.export import WEIGHT_BITS, export_onnx, file_name, this_processor
from adapler_jax.heads import SPAN
from adapler_jax.training.phases import MAY_CHANGE
from adapler_jax.weights.save import load_model, save_model
from tests.export.onnx_models import feeds_of, open_session, save_tiny
from tests.tiny import CONFIG, make_batch

BATCH = make_batch((12, 7), num_slots=12)


@pytest.fixture(name="model_dir")
def _model_dir(tmp_path):
    return save_tiny(tmp_path / "model", "adapler", class_names=("a", "b", "c"))


def run_file(path):
    """Return the logits of an exported file."""
    return open_session(str(path)).run(["logits"], feeds_of(BATCH))[0]


def test_the_file_has_the_names_that_servers_expect(model_dir):
    path = export_onnx(model_dir)
    assert path == model_dir / "onnx/model.onnx"
    session = open_session(str(path))
    kinds = {(found.name, found.type) for found in session.get_inputs()}
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert kinds == {(name, "tensor(int64)") for name in names}
    assert all(found.shape == ["batch", "sequence"] for found in session.get_inputs())
    logits, kept = session.get_outputs()
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 3])
    assert (kept.name, kept.type) == ("kept", "tensor(int64)")
    config = json.loads((model_dir / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}


def test_answers_have_the_names_of_transformers(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler", head=SPAN)
    session = open_session(str(export_onnx(directory)))
    names = [found.name for found in session.get_outputs()]
    assert names == ["start_logits", "end_logits", "kept"]


def test_the_settings_are_in_the_file(model_dir):
    session = open_session(str(export_onnx(model_dir)))
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["version"] == adapler_jax.__version__ and facts["pruner"] == "adapler"
    settings = json.loads(facts["adapler_jax"])
    assert settings["class_names"] == ["a", "b", "c"] and settings["max_length"] == 16
    assert settings["num_layers"] == CONFIG.num_layers and settings["budgets"] == []


def test_a_model_without_segments_has_two_inputs(tmp_path):
    saved = load_model(save_tiny(tmp_path / "two", "adapler"))
    config = type(saved.config)(**(vars(saved.config) | {"num_segments": 1}))
    embeddings = saved.params["encoder"]["embeddings"]
    encoder = saved.params["encoder"] | {
        "embeddings": embeddings | {"segment": embeddings["segment"][:1]}
    }
    params = saved.params | {"encoder": encoder}
    directory = save_model(tmp_path / "one", params, config, pruner_name="adapler")
    session = open_session(str(export_onnx(directory)))
    assert [found.name for found in session.get_inputs()] == ["input_ids", "attention_mask"]
    feeds = feeds_of(BATCH)
    feeds["token_type_ids"] = feeds["token_type_ids"] * 0
    expected = open_session(str(export_onnx(saved.directory))).run(["logits"], feeds)[0]
    feeds.pop("token_type_ids")
    np.testing.assert_allclose(session.run(["logits"], feeds)[0], expected, rtol=0, atol=1e-6)


def test_a_second_export_writes_equal_bytes(model_dir):
    first = export_onnx(model_dir).read_bytes()
    assert export_onnx(model_dir).read_bytes() == first


def test_each_kind_of_file_has_a_name():
    assert file_name("", "onnxruntime") == "model.onnx"
    assert file_name("", "standard") == "model_standard.onnx"
    assert file_name("avx512_vnni", "onnxruntime") == "model_qint8_avx512_vnni.onnx"
    assert len({file_name(processor, "onnxruntime") for processor in WEIGHT_BITS}) == 4


@pytest.mark.parametrize("processor", WEIGHT_BITS)
def test_a_quantized_file_has_integers_and_near_logits(tmp_path, processor):
    directory = save_tiny(tmp_path / "dense", "keep_all")  # drops nothing by a rounded score
    expected = run_file(export_onnx(directory))
    path = export_onnx(directory, quantize=processor)
    assert path.name == f"model_qint8_{processor}.onnx"
    kernels = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    highest = 2 ** (WEIGHT_BITS[processor] - 1) - 1
    assert kernels and all(np.abs(kernel).max() == highest for kernel in kernels.values())
    assert not any("pruner" in name or "head" in name for name in kernels)
    assert np.max(np.abs(run_file(path) - expected)) < 0.1 * np.max(np.abs(expected))


@pytest.mark.parametrize(
    ("machine", "flags", "processor"),
    [
        ("aarch64", "", "arm64"),
        ("arm64", "", "arm64"),
        ("x86_64", "avx2 avx512bw avx512_vnni", "avx512_vnni"),
        ("x86_64", "avx2 avx_vnni", "avx512_vnni"),
        ("x86_64", "avx2 avx512bw", "avx512"),
        ("x86_64", "avx2", "avx2"),
        ("x86_64", None, "avx2"),
    ],
)
def test_int8_is_for_the_processor_of_this_machine(
    monkeypatch, tmp_path, machine, flags, processor
):
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(f"flags : fpu {flags}\n")
    monkeypatch.setattr(export, "CPU_FLAGS", path)
    monkeypatch.setattr(export.platform, "machine", lambda: machine)
    assert this_processor() == processor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int4"}, "quantize is 'int4'; expected int8, avx2, avx512"),
        ({"operators": "tensorrt"}, "operators is 'tensorrt'; expected onnxruntime or standard"),
        ({"quantize": "avx2", "operators": "standard"}, "quantize needs operators of ONNX Runtime"),
        ({"opset": 12}, "opset is 12; expected 20 to 23"),
    ],
)
def test_a_wrong_option_is_named(model_dir, options, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(model_dir, **options)
    assert not (model_dir / "onnx").exists()


def test_weights_above_the_limit_are_in_a_file_of_their_own(model_dir, monkeypatch):
    expected = run_file(export_onnx(model_dir))
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    path = export_onnx(model_dir)
    names = sorted(found.name for found in path.parent.iterdir())
    assert names == ["model.onnx", "model.onnx_data"]
    np.testing.assert_array_equal(run_file(path), expected)


def test_a_failed_export_leaves_the_previous_file(model_dir, monkeypatch):
    before = export_onnx(model_dir).read_bytes()

    def fail(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(export.onnx, "save", fail)
    with pytest.raises(OSError, match="the disk is full"):
        export_onnx(model_dir)
    assert [found.name for found in (model_dir / "onnx").iterdir()] == ["model.onnx"]
    assert (model_dir / "onnx/model.onnx").read_bytes() == before


def test_a_save_of_other_weights_removes_the_file(model_dir):
    export_onnx(model_dir)
    saved = load_model(model_dir)
    save_model(model_dir, saved.params, saved.config, pruner_name="adapler")
    assert (model_dir / "onnx/model.onnx").exists()
    other = jax.tree.map(lambda leaf: leaf + 0.25, saved.params)
    save_model(model_dir, other, saved.config, pruner_name="adapler")
    assert not (model_dir / "onnx").exists()


def run_command(*arguments):
    """Run `adapler export` and return its exit code."""
    for name in cli_export.FLAGS:  # of an earlier command of this process
        cli_export.FLAGS[name].unparse()
    try:
        main.main(["export", *arguments])
    except SystemExit as end:
        return end.code
    return 0


def test_the_command_writes_the_file(model_dir, capsys):
    assert run_command(f"--model={model_dir}", "--format=onnx") in (0, None)
    assert "onnx/model.onnx: 0." in capsys.readouterr().out
    arguments = f"--model={model_dir}", "--format=onnx", "--quantize=avx2"
    assert run_command(*arguments) in (0, None)
    assert (model_dir / "onnx/model_qint8_avx2.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quantize=int8"], "--quantize is for --format=onnx; add it, or leave it out"),
        (["--format=onnx", "--dtype=bfloat16"], "--dtype is for --format=jax or openvino"),
        (["--format=openvino", "--quantize=int8"], "--quantize is for --format=onnx; add it"),
        (["--format=openvino", "--dtype=bfloat16"], "--dtype is about --data; give the file"),
        (["--dtype=float32,bfloat16"], "--dtype is float32,bfloat16; programs have one of them"),
        (["--dtype=fp16"], "unknown dtype fp16; there are float32, bfloat16"),
        (["--format=onnx", "--label=stars"], "--label is about --data; give the file"),
        (["--format=onnx", "--buckets=64"], "--buckets is for --format=jax"),
    ],
)
def test_a_flag_of_the_other_format_is_an_error(model_dir, capsys, arguments, message):
    assert run_command(f"--model={model_dir}", *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_encoder_of_another_family_is_named(model_dir):
    saved = load_model(model_dir)
    config = dataclasses.replace(saved.config, family="modern")
    with pytest.raises(ValueError, match="encoder 'modern' with pruner 'adapler' has no ONNX form"):
        build_model(dataclasses.replace(saved, config=config))


def test_a_run_s_model_may_be_exported_again():
    assert any(fnmatch.fnmatch("onnx/model.onnx", pattern) for pattern in MAY_CHANGE)


def test_the_command_names_a_wrong_option(model_dir, capsys):
    assert run_command(f"--model={model_dir}", "--format=onnx", "--quantize=int4") == 2
    assert "error: quantize is 'int4'" in capsys.readouterr().err


def test_the_command_names_the_missing_extra(model_dir, capsys, monkeypatch):
    monkeypatch.setitem(adapler_jax._MODULES, "export_onnx", "onnx_that_is_missing")
    monkeypatch.delitem(vars(adapler_jax), "export_onnx", raising=False)
    monkeypatch.setattr("adapler_jax.io.extras.EXTRAS", {"onnx_that_is_missing": "onnx"})
    assert run_command(f"--model={model_dir}", "--format=onnx") == 2
    told = capsys.readouterr().err
    assert told.count('is not installed; install it with `pip install ".[onnx]"` in the clone') == 1


def test_the_command_compares_the_file_on_texts(model_dir, tmp_path, capsys):
    (tmp_path / "texts.csv").write_text("words,kind\nw1 w2 w3,a\nw9 w8,b\n")
    data = (f"--data={tmp_path / 'texts.csv'}", "--column=words", "--label=kind")
    assert run_command(f"--model={model_dir}", "--format=onnx", *data) is None
    path, found = capsys.readouterr().out.splitlines()
    assert path.startswith(str(model_dir / "onnx/model.onnx"))
    assert found.startswith("100.00% of 2 texts have the library's label, accuracy ")
    assert "| onnx/model.onnx | 2 | 100.00% |" in (model_dir / "README.md").read_text()


def test_the_command_checks_labels_before_it_writes(model_dir, tmp_path, capsys):
    (tmp_path / "texts.csv").write_text("words,kind\nw1 w2 w3,a\nw9 w8,other\n")
    data = (f"--data={tmp_path / 'texts.csv'}", "--column=words", "--label=kind")
    assert run_command(f"--model={model_dir}", "--format=onnx", *data) == 2
    assert "label 'other' is no class of the model: a, b, c" in capsys.readouterr().err
    assert not (model_dir / "onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format=onnx", "--label=kind"), "--label is about --data; give the file"),
        (("--data=texts.csv",), "--data is for --format=onnx"),
        (("--format=onnx", "--data=missing.csv"), "missing.csv"),
    ],
)
def test_the_command_names_wrong_data(model_dir, capsys, words, message):
    assert run_command(f"--model={model_dir}", *words) == 2
    assert message in capsys.readouterr().err
    assert not (model_dir / "onnx").exists()
