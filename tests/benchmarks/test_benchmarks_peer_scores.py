"""Each system's labels are compared with torch's, and with the same model in float32."""

from types import SimpleNamespace

import numpy as np

from adapler_jax.data.batching.ragged import ragged
from adapler_jax.data.batching.tokenized import Tokenized
from benchmarks import peer_scores

TOKENS = ragged([np.array([1, 2]), np.array([1]), np.array([3]), np.array([4])], np.int32)


def make_bench(*systems):
    """A bench of (package, method, engine, dtype, labels)."""
    keys = ("package", "method", "engine", "dtype")
    return SimpleNamespace(
        names=lambda: [dict(zip(keys, system)) for system in systems],
        predict=lambda texts, batch_size: [np.array(system[-1]) for system in systems],
    )


def columns_of(*benches, monkeypatch):
    monkeypatch.setattr(peer_scores, "flops_speedup", lambda *arguments, **options: 2.0)
    test = Tokenized(TOKENS, TOKENS, np.array([0, 1, 1, 1]), np.arange(4))
    run = SimpleNamespace(test=test, metric="accuracy", models={"dense": None, "fast": None})
    return peer_scores.score_columns(run, benches, np.arange(4), batch_size=4)


def test_agreement_is_with_torch_and_with_the_model_s_own_float32(monkeypatch):
    ours = make_bench(
        ("ours", "fast", "onnxruntime", "float32", [0, 1, 0, 0]),
        ("ours", "fast", "onnxruntime", "int8", [0, 1, 0, 1]),
        ("ours", "fast", "openvino", "int8", [0, 1, 0, 1]),
    )
    torch = make_bench(("torch", "dense", "", "float32", [0, 1, 1, 1]))
    found = columns_of(ours, torch, monkeypatch=monkeypatch)
    assert [row["agreement"] for row in found] == [0.5, 0.75, 0.75, 1.0]
    assert [row["float32_agreement"] for row in found] == [1.0, 0.75, None, 1.0]
    assert [row["test_score"] for row in found] == [0.5, 0.75, 0.75, 1.0]
    assert [row["flops_speedup"] for row in found] == [2.0, 2.0, 2.0, 1.0]


def test_without_torch_there_is_no_agreement_with_the_dense_model(monkeypatch):
    (row,) = columns_of(
        make_bench(("ours", "dense", "padded", "float32", [0, 0, 0, 0])), monkeypatch=monkeypatch
    )
    assert row["agreement"] is None and row["float32_agreement"] == 1.0
