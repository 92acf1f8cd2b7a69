"""Measuring writes what choosing reads; what is measured is not judged here."""

import collections
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.evaluation.models import true_speedup
from adapler_jax.inference.autotune import run as latency
from adapler_jax.inference.autotune.select import select_driver
from adapler_jax.inference.autotune.table import find_table, read_table, write_table
from adapler_jax.inference.autotune.workloads import (
    kept_fractions,
    mixed_batch,
    scheduled_params,
)
from adapler_jax.inference.engine import make_engine
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import read_config
from benchmarks.schedules import SCHEDULES
from tests.inference.tables import TABLE, make_row

pytestmark = pytest.mark.long

CONFIG = EncoderConfig(
    num_layers=2, num_heads=4, hidden_dim=16, ffn_dim=32, vocab_size=50, num_positions=24
)
WORKLOAD = latency.Workload(
    configs=[CONFIG], dtypes=["float32"], cases=[(4, 8)], speedups=(1.0, 2.0), num_rounds=2
)
COMMAND = "adapler latency --cases=4x8"


@pytest.fixture(scope="module", name="measured")
def _measured(tmp_path_factory):
    """(path, table, notes) of the command."""
    path, notes = tmp_path_factory.mktemp("measured") / "table.json", []
    table = latency.measure_device(
        WORKLOAD, path, command=COMMAND, keep_earlier=True, log=notes.append
    )
    return path, table, notes


def test_every_case_is_measured_and_written(measured):
    path, table, notes = measured
    assert read_table(path) == table == find_table(path)
    works = collections.Counter((row.what, row.speedup) for row in table.rows if row.what != "rung")
    assert works == {
        (driver, speedup): 2 if speedup is None else 1  # plain BERT runs mixed and full batches
        for driver in ("bucketed", "packed")
        for speedup in (None, 1.0, 2.0)
    }
    rungs = {(row.batch, row.length) for row in table.rows if row.what == "rung"}
    assert rungs == {(4, 2), (4, 4), (4, 8)}
    assert (
        "1 of 2: 2 layers of 16, float32, 4x8: fastest with all tokens" in " ".join(notes)
        and str(path) in notes[-1]
    )
    assert table.command == COMMAND


def test_an_engine_can_select_by_the_measurements(measured):
    for batch_size in (1, 4):
        for is_pruned in (False, True):
            found = select_driver(
                measured[1],
                CONFIG,
                jnp.float32,
                batch_size=batch_size,
                length=8,
                is_pruned=is_pruned,
            )
            assert found.driver in ("bucketed", "packed") and found.buckets[-1] >= 8


def test_plain_bert_is_measured_with_and_without_padding(measured):
    shares = [row.live_share for row in measured[1].rows if row.speedup is None and row.batch == 4]
    assert len(set(shares)) == 2 and max(shares) == 1.0


def test_measuring_again_keeps_the_other_rows():
    new = dataclasses.replace(TABLE.rows[0], ms=77.0)
    other = make_row("packed", 5.0, shape=(2, 2))
    found = latency.merge(TABLE.rows, [new, other])
    assert found == (new, *TABLE.rows[1:], other)


def test_rows_of_another_device_are_not_kept(tmp_path):
    path, notes = tmp_path / "table.json", []
    assert latency.previous_table(path, notes.append) is None and notes == []
    write_table(TABLE, path)
    assert latency.previous_table(path, notes.append) == TABLE and notes == []
    write_table(dataclasses.replace(TABLE, device="a lathe"), path)
    assert (
        latency.previous_table(path, notes.append) is None
        and "replaced: " in notes[0]
        and "a lathe" in notes[0]
    )


def test_a_models_own_sizes_are_measured(monkeypatch, tmp_path):
    sizes = {
        "model_type": "bert",
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "vocab_size": 30,
        "max_position_embeddings": 12,
    }
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    config, _ = read_config(tmp_path)
    assert (config.num_layers, config.num_positions) == (3, 12)
    asked = []
    monkeypatch.setattr(
        latency,
        "measure_drivers",
        lambda *arguments, **_: asked.append(arguments[2:]) or TABLE.rows,
    )
    monkeypatch.setattr(
        latency,
        "measure_buckets",
        lambda *arguments, **_: asked.append(arguments[2:]) or TABLE.rows,
    )
    workload = latency.Workload(
        configs=[config],
        dtypes=["float32"],
        cases=[(1, 512), (1, 8), (1, 600)],
        speedups=(1.0,),
        num_rounds=1,
    )
    latency.measure_all(workload, log=asked.append)
    assert [entry for entry in asked if isinstance(entry, tuple)] == [(1, 8), (1, 12), (1, 12)]


@pytest.mark.parametrize(
    ("method", "speedups"),
    [("adapler", (1.0, 2.0, 4.0)), ("powerbert", (1.0, 2.0, 3.5)), ("trbert", (1.0, 2.0, 2.5))],
)
def test_schedules_drop_to_the_target_speedup(method, speedups):
    config = dataclasses.replace(CONFIG, num_layers=4, num_positions=64)
    batch = mixed_batch(config, 8, 64)
    schedule = SCHEDULES[method](config)
    pruner = schedule.pruner
    params = scheduled_params(config, batch, speedups, jnp.float32, schedule=schedule)
    assert params[None]["pruner"] == {}
    assert (
        len({id(tree["encoder"]) for tree in params.values()}) == 1
    )  # one encoder's weights for all
    run = make_engine(config, pruner, driver="bucketed", buckets=(64,))
    for speedup in speedups:
        _, trace = run(params[speedup], batch)
        count_NB = np.asarray(trace.count_NB, np.int64)
        found = true_speedup(params[speedup], config, pruner, batch.valid_BL.sum(-1), count_NB)
        assert 0.85 * speedup < found < 1.15 * speedup


def test_a_schedule_that_a_method_cannot_follow_is_rejected():
    config = dataclasses.replace(CONFIG, num_layers=4, num_positions=64)
    with pytest.raises(ValueError, match=r"trbert on 4 layers is at most 2.* not 9x"):
        kept_fractions(config, 64, 9.0, schedule=SCHEDULES["trbert"](config))
