"""dtype="auto" is bfloat16 only if the device is faster with it and the predictions agree."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from adapler_jax import heads
from adapler_jax.inference import compute_dtype
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.compute_dtype import (
    Agreement,
    choose_dtype,
    compare_dtypes,
    fingerprint,
    probabilities,
)
from adapler_jax.io.provenance import device_name
from adapler_jax.types import COMPUTE_DTYPES
from adapler_jax.weights.save import load_model, save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.inference.tables import TABLE


@pytest.fixture(name="saved")
def _saved(tmp_path):
    directory = tmp_path / "model"
    save_model(
        directory,
        tiny.make_params(),
        tiny.CONFIG,
        pruner_name="adapler",
        max_length=16,
        tokenizer=build_tokenizer(),
    )
    return load_model(directory)


@pytest.fixture(autouse=True)
def _has_units(monkeypatch):
    """Set a device with units for bfloat16."""
    monkeypatch.setattr(compute_dtype, "has_units", lambda: True)


def write(saved, **changes):
    """Write an agreement into the directory of a model."""
    found = Agreement(compute_dtype.MIN_ROWS, 1.0, 0.01, fingerprint(saved))
    compute_dtype.write_agreement(
        saved.directory / compute_dtype.OPERANDS_FILE, dataclasses.replace(found, **changes)
    )


def taken(saved, **options):
    """Return the name of the dtype that "auto" takes."""
    return np.dtype(choose_dtype("auto", saved, **options)).name


def test_predictions_are_compared_without_padding_examples_and_kept_in_its_directory(saved):
    batches = [
        tiny.make_batch((12, 7, 3), num_fillers=1),
        tiny.make_batch((5, 9), num_fillers=2, seed=1),
    ]
    found = compare_dtypes(saved, batches, driver="masked", dtype="float32")
    assert (
        found.num_rows == 5
        and found.same_share in (0.6, 0.8, 1.0)
        and 0.0 < found.largest_difference < 0.3
    )
    assert compute_dtype.read_agreement(saved) == found
    assert taken(saved) == "float32" and not found.is_enough


def test_predictions_that_are_no_numbers_are_not_the_same(saved):
    saved.params["head"]["classifier"]["bias"] = np.full(3, np.nan, np.float32)
    found = compare_dtypes(saved, [tiny.make_batch((5, 9))], driver="masked")
    assert (found.num_rows, found.same_share, found.largest_difference) == (2, 0.0, 1.0)


def test_comparisons_are_described_by_a_line_a_verdict():
    def of(rows, share):
        return Agreement(rows, share, 0.0, "")

    same = {"dense": of(256, 1.0), "adapt-2x": of(256, 0.996)}
    assert compute_dtype.describe_agreement(same, "validation") == [
        "dense, adapt-2x: bfloat16 operands predict the same in 99.6% to 100.0% of 256 rows of "
        'validation, so dtype="auto" takes bfloat16'
    ]
    mixed = compute_dtype.describe_agreement(same | {"adapt-4x": of(256, 0.9)}, "validation")
    assert len(mixed) == 2
    assert mixed[1].startswith("adapt-4x: ") and mixed[1].endswith(
        '90.0% of 256 rows of validation, so dtype="auto" takes float32'
    )
    few = compute_dtype.describe_agreement(
        {"dense": of(3, 1.0), "adapt": of(3, 0.3)}, "validation_matched"
    )
    assert few == [
        "dense, adapt: 3 rows of validation_matched are too few to judge bfloat16 operands by "
        '(at least 200), so dtype="auto" takes float32'
    ]
    assert compute_dtype.describe_agreement({}, None) == []


def test_without_examples_nothing_is_compared(saved):
    with pytest.raises(ValueError, match="no examples to compare operands on"):
        compare_dtypes(saved, [], driver="masked")


def test_answers_of_every_head_have_probabilities_by_answer():
    logits = {"span_BL2": np.zeros((3, 4, 2)), "type_B3": np.zeros((3, 3))}
    found = probabilities(heads.SPAN, logits)
    assert {name: x.flat[0] for name, x in found.items()} == pytest.approx(
        {"span_BL2": 1 / 4, "type_B3": 1 / 3}
    )
    options = probabilities(
        heads.choice(num_options=2), np.array([[0.0], [np.log(3.0)], [5.0], [5.0]])
    )
    np.testing.assert_allclose(options, [[0.25, 0.75]] * 2 + [[0.5, 0.5]] * 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "bfloat16"),
        ({"same_share": 0.98}, "float32"),
        ({"num_rows": compute_dtype.MIN_ROWS - 1}, "float32"),
        ({"weights": "of another model"}, "float32"),
    ],
)
def test_a_record_decides_for_its_own_model_alone(saved, changes, expected):
    write(saved, **changes)
    assert taken(saved) == expected
    assert np.dtype(choose_dtype("float32", saved)).name == "float32"


def test_without_a_record_float32_is_taken(saved):
    assert taken(saved) == "float32"


def test_other_weights_need_another_record(saved):
    write(saved)
    params = tiny.make_params(threshold=0.5)
    save_model(saved.directory, params, tiny.CONFIG, pruner_name="adapler", max_length=16)
    assert taken(load_model(saved.directory)) == "float32"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"same_share": 2}', "[" * 100_000, '{"num_rows": NaN}', None, "no checksum"],
)
def test_a_damaged_record_is_reported_and_ignored(saved, content):
    path = saved.directory / compute_dtype.OPERANDS_FILE
    if content in (None, "no checksum"):
        write(saved, same_share=0.1)
        record = json.loads(path.read_text()) | {"same_share": 1.0}
        content = json.dumps({k: v for k, v in record.items() if content is None or k != "sha256"})
    path.write_text(content)
    with pytest.warns(UserWarning, match="operands.json is not used"):
        assert taken(saved) == "float32"


def test_a_device_without_units_keeps_float32(saved, monkeypatch):
    write(saved)
    monkeypatch.setattr(compute_dtype, "has_units", lambda: False)
    assert taken(saved) == "float32"


@pytest.mark.parametrize(("factor", "expected"), [(0.5, "bfloat16"), (1.5, "float32")])
def test_seconds_of_this_device_decide_before_the_flags_of_its_processor(saved, factor, expected):
    write(saved)
    rows = [
        dataclasses.replace(row, dtype="float32") for row in TABLE.rows if row.dtype == "float32"
    ]
    rows += [dataclasses.replace(row, dtype="bfloat16", ms=factor * row.ms) for row in rows]
    table = dataclasses.replace(TABLE, device=device_name(), rows=tuple(rows))
    assert taken(saved, autotune_table=table) == expected


def test_a_loaded_model_says_which_operands_it_takes(saved):
    write(saved)
    assert Classifier.load(saved.directory, dtype="auto", driver="masked").dtype == "bfloat16"
    assert Classifier.load(saved.directory, driver="masked").dtype == "float32"
    with pytest.raises(ValueError, match="dtype is 'half'; expected float32 or bfloat16"):
        Classifier.load(saved.directory, dtype="half")


DEVICES = {
    "tpu": ({"platform": "tpu"}, True),
    "h100": ({"platform": "gpu", "compute_capability": "9.0"}, True),
    "v100": ({"platform": "gpu", "compute_capability": "7.0"}, False),
    "mi300": ({"platform": "gpu", "compute_capability": "gfx942"}, False),
    "metal": ({"platform": "metal"}, False),
}


@pytest.mark.parametrize("name", DEVICES)
def test_accelerators_with_units_are_known(name, monkeypatch, tmp_path):
    monkeypatch.undo()
    fields, expected = DEVICES[name]
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(**fields)])
    monkeypatch.setattr(compute_dtype, "CPU_INFO", tmp_path / "none")
    assert compute_dtype.has_units() is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t: fpu avx512_bf16 sse\n", True),
        ("flags : fpu avx2\n", False),
        ("Features : fp bf16\n", True),
        ("", False),
    ],
)
def test_processors_with_units_are_known(text, expected, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(compute_dtype, "CPU_INFO", tmp_path / "cpuinfo")
    compute_dtype.CPU_INFO.write_text(text)
    assert compute_dtype.has_units() is expected
    compute_dtype.CPU_INFO.unlink()
    assert not compute_dtype.has_units()


def test_dtypes_by_name_are_those_of_the_library(saved):
    assert [choose_dtype(name, saved) for name in COMPUTE_DTYPES] == list(COMPUTE_DTYPES.values())
