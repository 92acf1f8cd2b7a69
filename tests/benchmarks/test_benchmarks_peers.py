"""Baselines and ours get the same texts and give comparable rows.

A comparison test has all baselines installed.
"""

import json
import os

import numpy as np
import pytest

from benchmarks import peer_runs, peers, training
from benchmarks.peer_systems import PACKAGES, missing_packages
from benchmarks.remote import Remote
from benchmarks.systems import Texts, chunks, pad_to_longest, sample, take
from benchmarks.turns import time_turns, use_cores

NUM_TIMINGS = 2 * 2  # rounds x batches
OURS = [
    ("adapler_jax", method, engine, dtype)
    for method, engines in (("dense", ("padded", "packed")), ("adapt-1.2x", ("bucketed", "packed")))
    for dtype in ("float32", "bfloat16")
    for engine in engines
]
PEERS = {
    "torch": [("torch", "dense", "", dtype) for dtype in ("float32", "bfloat16")],
    "onnxruntime": [
        ("onnxruntime", "dense", engine, dtype)
        for engine in ("exported", "fused")
        for dtype in ("float32", "int8")
    ],
    "openvino": [("openvino", "dense", "", dtype) for dtype in ("float32", "bfloat16", "int8")],
}


@pytest.fixture(scope="module")
def finished_run(copied_run):
    return copied_run("learned")


@pytest.fixture
def without_peers(monkeypatch):
    monkeypatch.setattr(peers, "missing_packages", lambda name: list(PACKAGES[name]))


def names_of(rows):
    return [(row["package"], row["method"], row["engine"], row["dtype"]) for row in rows]


@pytest.mark.long
def test_ours_alone_are_timed_and_what_is_left_out_is_told(
    finished_run, without_peers, capsys, tmp_path
):
    path = tmp_path / "rows.json"
    rows = peers.main(
        [f"--workdir={finished_run}", "--quick", "--drivers=packed", f"--json={path}"]
    )
    assert names_of(rows) == [name for name in OURS if name[2] != "bucketed"]
    assert all(row["num_timings"] == NUM_TIMINGS and row["num_texts"] == 8 for row in rows)
    assert all(0.0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] for row in rows)
    assert all(row["agreement"] is None and row["vs_best_peer"] is None for row in rows)
    assert all(row["num_threads"] == len(os.sched_getaffinity(0)) for row in rows)
    for dtype in ("float32", "bfloat16"):
        speeds = [
            row["sentences_per_s"]
            for row in rows
            if (row["method"], row["dtype"]) == ("dense", dtype)
        ]
        ratios = [
            row["vs_our_dense"] for row in rows if (row["method"], row["dtype"]) == ("dense", dtype)
        ]
        assert ratios == [speed / max(speeds) for speed in speeds]
    told = capsys.readouterr().err
    assert all(f"{name} is left out: torch, " in told for name in ("onnxruntime", "openvino"))
    assert "pip install -r requirements-baselines.txt" in told
    record = json.loads(path.read_text())
    assert record["rows"] == rows
    assert {"command", "commit", "device", "versions", "date"} <= record.keys()


EXPORTED = "--shape=quick --length=24 --speedup=2 --mixed --exported --quick --dtypes=float32"


def exported_names(method, *engines):
    """The rows of a model as an ONNX file."""
    dtypes = {"onnxruntime": ("float32", "int8"), "openvino": ("float32",)}
    return [
        ("adapler_jax", method, engine, dtype) for engine in engines for dtype in dtypes[engine]
    ]


@pytest.mark.long
def test_exported_files_are_measured_with_the_drivers(without_peers, monkeypatch, capsys):
    monkeypatch.setattr(peers, "ENGINES", ("onnxruntime", "an_engine_that_is_missing"))
    rows = peers.main([*EXPORTED.split(), "--drivers=packed", "--peers=torch"])
    methods = ("dense", "adapler-2x")
    expected = [name for method in methods for name in exported_names(method, "onnxruntime")]
    assert names_of(rows)[-4:] == expected
    speedups = {row["method"]: row["flops_speedup"] for row in rows}
    assert speedups["dense"] == 1.0 and 1.6 < speedups["adapler-2x"] < 2.4
    assert all(12 <= row["mean_length"] <= 24 for row in rows)
    assert [row["vs_our_dense"] for row in rows[-4:-2]] == [1.0, 1.0]  # the dense files
    assert all(row["num_timings"] == NUM_TIMINGS for row in rows)
    assert {(row["task"], row["metric"], row["test_score"]) for row in rows} == {
        ("random quick", None, None)
    }
    told = capsys.readouterr().err
    assert "an_engine_that_is_missing is left out for our models" in told
    assert "torch is left out" in told and "openvino" not in told


@pytest.mark.long
@pytest.mark.compare
def test_exported_files_run_in_openvino(without_peers):
    rows = peers.main(EXPORTED.split())
    found = [name for name in names_of(rows) if name[2] == "openvino"]
    assert found == [
        name for m in ("dense", "adapler-2x") for name in exported_names(m, "openvino")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape=huge"], "unknown shape huge; there are minilm, base, quick, modernbert"),
        (["--shape=quick", "--length=513"], "--length=513; quick takes 2 to 512 tokens"),
        (["--shape=quick", "--peers=tensorrt"], "unknown peer tensorrt"),
        (["--shape=quick", "--models=adapler"], "--shape has plain BERT alone"),
    ],
)
def test_shapes_and_peers_that_there_are_not_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        peers.main(arguments)


def test_an_unknown_model_is_named(finished_run):
    with pytest.raises(
        ValueError, match=r"no model 'adapt-9x': the run has dense, adapler, adapt-1.2x, and"
    ):
        peer_runs.chosen_models(finished_run, ["adapt-9x"])


def test_a_model_may_be_a_directory(finished_run):
    directory = finished_run / "adapler" / "model"
    assert peer_runs.chosen_models(finished_run, [str(directory)])[str(directory)] == directory


def test_texts_that_make_no_batch_are_refused(finished_run):
    test = peers.load_run(finished_run, []).test
    with pytest.raises(ValueError, match=r"2 of .* texts make no batch of 4; take smaller"):
        peers.timed_batches(test, 4, 2)
    assert [len(batch) for batch in peers.timed_batches(test, 4, 10)] == [4, 4]


def test_a_smaller_sample_starts_a_larger_one():
    assert list(sample(10, 4)) == list(sample(10, 0))[:4]
    assert sorted(sample(10, 0)) == list(range(10))
    assert [list(part) for part in chunks(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


def test_peers_get_texts_padded_to_the_longest():
    texts = Texts(
        [np.array([5, 6]), np.array([7, 8, 9]), np.array([1])],
        [np.array([0, 1])] + 2 * [np.zeros(3)],
    )
    inputs = pad_to_longest(take(texts, [0, 1]), 32)
    assert inputs["input_ids"].tolist() == [[5, 6, 0], [7, 8, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert inputs["token_type_ids"].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int64)}


def test_ratios_by_hand():
    def row(package, method, dtype, speed, engine="packed"):
        names = {"package": package, "method": method, "dtype": dtype, "engine": engine}
        return names | {"sentences_per_s": speed}

    rows = peers.with_ratios(
        [
            row("adapler_jax", "dense", "float32", 10.0),
            row("adapler_jax", "adapler", "float32", 30.0),
            row("torch", "dense", "float32", 12.0),
            row("openvino", "dense", "float32", 15.0),
            row("openvino", "dense", "int8", 60.0),
            row("adapler_jax", "dense", "float32", 20.0, "onnxruntime"),
            row("adapler_jax", "adapler", "float32", 50.0, "onnxruntime"),
        ]
    )
    found = [rows[1][name] for name in ("vs_best_float32_peer", "vs_best_peer", "vs_our_dense")]
    assert found == [2.0, 0.5, 3.0]
    assert "vs_best_peer" not in rows[2]
    assert rows[6]["vs_our_dense"] == 2.5  # an exported file, of the same engine


def test_systems_take_turns_and_another_starts_each_round():
    order = []

    def turn(name):
        order.append(name)
        return [1.0, 2.0]

    found = time_turns(
        {name: lambda name=name: turn(name) for name in "abc"}, num_rounds=2, pause_s=0.0
    )
    assert "".join(order) == "abcbca"
    assert all(second_RB.tolist() == [[1.0, 2.0]] * 2 for second_RB in found.values())
    with pytest.raises(ValueError, match="0 systems and 2 rounds"):
        time_turns({}, num_rounds=2)


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ValueError, match="expected at most one a core"):
        use_cores(10_000)


def test_a_remote_answers_and_tells_its_errors():
    with Remote(dict, {"a": 1}) as remote:
        assert remote.get("a") == 1
        with pytest.raises(RuntimeError, match=r"in the process of dict: (?s:.*)KeyError: 'b'"):
            remote.pop("b")
        assert remote.get("a") == 1
    with (
        pytest.raises(RuntimeError, match=r"in the process of int: (?s:.*)invalid literal"),
        Remote(int, "x"),
    ):
        pass


def test_a_remote_that_is_killed_is_told():
    with Remote(dict, {"a": 1}) as remote:
        remote._process.kill()
        remote._process.join()
        with pytest.raises(ChildProcessError, match="the process of dict has ended"):
            remote.get("a")


@pytest.mark.long
@pytest.mark.compare
def test_all_peers_run_modernbert():
    pytest.importorskip("torch", reason="torch is not installed")
    rows = peers.main(["--shape=modernbert-quick", "--length=160", "--mixed", "--quick"])
    packages = {row["package"]: row["engine"] for row in rows}
    assert packages.keys() == {"adapler_jax", *PACKAGES} and packages["onnxruntime"] == "exported"
    assert all(row["agreement"] == 1.0 for row in rows if row["dtype"] == "float32")


@pytest.mark.long
@pytest.mark.compare
def test_all_peers_give_the_labels_of_ours(finished_run, capsys):
    absent = {package for name in PACKAGES for package in missing_packages(name)}
    if absent:
        pytest.skip(
            f"{', '.join(sorted(absent))} not installed: pip install -r requirements-baselines.txt"
        )
    rows = peers.main([f"--workdir={finished_run}", "--quick"])
    assert names_of(rows) == [*OURS, *PEERS["torch"], *PEERS["onnxruntime"], *PEERS["openvino"]]
    assert all(row["num_timings"] == NUM_TIMINGS for row in rows)
    assert all(
        row["agreement"] == 1.0
        for row in rows
        if (row["method"], row["dtype"]) == ("dense", "float32")
    )
    assert all(
        row["vs_best_peer"] <= row["vs_best_float32_peer"]
        for row in rows
        if row["package"] == "adapler_jax"
    )
    assert "left out" not in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.compare
@pytest.mark.parametrize("shape", ["quick", "modernbert-quick"])
def test_torch_gives_the_labels_of_a_shape_on_random_weights(shape):
    pytest.importorskip("torch", reason="torch is not installed")
    rows = peers.main([f"--shape={shape}", "--length=16", "--peers=torch", "--quick"])
    assert names_of(rows) == [*(name for name in OURS if name[1] == "dense"), *PEERS["torch"]]
    assert all(row["agreement"] == 1.0 for row in rows if row["dtype"] == "float32")


@pytest.mark.long
@pytest.mark.compare
def test_training_in_torch_takes_turns(capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    rows = training.main(["--quick", "--torch", "--steps=saliency"])
    assert [(row["dtype"], row["method"]) for row in rows][-2:] == [
        (dtype, training.TORCH) for dtype in ("float32", "bfloat16")
    ]
    assert len(rows) == 6 and all(row["num_timings"] == 2 for row in rows)
    fastest = min(row["wall_ms"] for row in rows[-2:])
    assert [row["torch_ratio"] for row in rows] == [row["wall_ms"] / fastest for row in rows]
