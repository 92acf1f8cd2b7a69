"""The flags of `adapler latency` describe what is measured."""

import json

import pytest

from adapler_jax.cli import latency
from adapler_jax.inference.autotune import run
from adapler_jax.inference.autotune.table import cached_path, find_table
from tests.inference.tables import TABLE

SIZES = {
    "model_type": "bert",
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "vocab_size": 30,
    "max_position_embeddings": 12,
}


@pytest.fixture(name="parse")
def _parse():
    """A function that parses flags, which have their defaults again afterwards."""
    yield lambda *arguments: latency.FLAGS(["latency", *arguments])
    latency.FLAGS.unparse_flags()
    for name in latency.FLAGS:
        latency.FLAGS[name].unparse()


def test_the_users_cache_is_the_default(parse, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(run, "measure_all", lambda *_, **__: list(TABLE.rows))
    parse()
    latency.main()
    assert find_table().rows == TABLE.rows and cached_path().is_relative_to(tmp_path)


def test_a_models_own_sizes_are_measured(parse, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    parse(f"--model={tmp_path}", "--cases=1x512")
    workload = latency.parse_workload()
    assert [(config.num_layers, config.num_positions) for config in workload.configs] == [(3, 12)]
    assert workload.cases == [(1, 512)] and workload.num_rounds == 5


def test_a_quick_measurement_has_few_cases(parse):
    parse()
    full = latency.parse_workload()
    parse("--quick", "--rounds=7")
    quick = latency.parse_workload()
    assert len(quick.configs) == 1 and quick.num_rounds == 3
    assert len(quick.cases) < len(full.cases) and len(quick.speedups) < len(full.speedups)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--cases=32", "case '32'; expected batch x length, as 32x128"),
        ("--cases=0x128", "case '0x128'"),
        ("--cases=1x1", "case '1x1'"),
        ("--cases=axb", "case 'axb'"),
        ("--dtypes=float16", "unknown dtype float16; there are float32, bfloat16"),
        ("--shapes=huge", "unknown shape huge; there are minilm, base"),
        ("--rounds=0", "--rounds is 0; expected 1 or more"),
        ("--model=/no/such/model", "/no/such/model"),
    ],
)
def test_a_wrong_argument_is_named(parse, argument, message):
    parse(argument)
    with pytest.raises(ValueError) as caught:
        latency.parse_workload()
    assert message in str(caught.value)
