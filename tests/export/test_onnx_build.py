"""An ONNX file gives the logits of the reference driver and drops the same tokens."""

import functools

import hypothesis
import jax
import numpy as np
import onnx
import pytest
from hypothesis import strategies

from adapler_jax.export.onnx.build import build_model
from adapler_jax.heads import CLASSIFICATION, SPAN, choice, make_head
from adapler_jax.inference.calibration import FIXED, THRESHOLDS
from adapler_jax.weights.save import load_model, save_model
from tests.export.onnx_models import (
    METHODS,
    calibrate,
    feeds_of,
    open_session,
    run_engine,
    save_tiny,
)
from tests.tiny import CONFIG, make_batch, make_params

LENGTHS = (16, 9, 1, 2, 16)  # other sizes: test_batch_mates_and_padding_do_not_matter
TOLERANCE = 1e-4  # of logits; float32


@pytest.fixture(scope="module", name="saved_dir")
def _saved_dir(tmp_path_factory):
    """Return a function that saves a model of a method and head once."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def saved_dir(method, head_name="classification"):
        head = SPAN if head_name == "span" else CLASSIFICATION
        return save_tiny(folder / f"{method}-{head_name}", method, head=head)

    return saved_dir


@pytest.fixture(scope="module", name="session_of")
def _session_of(saved_dir):
    """Return a function that builds a model of a method and head once, and opens it."""

    @functools.cache
    def session_of(method, head_name="classification", *, uses_contrib=True):
        model = build_model(load_model(saved_dir(method, head_name)), uses_contrib=uses_contrib)
        return open_session(model.SerializeToString())

    return session_of


@functools.cache
def engine_results(directory, lengths, num_slots):
    """Return the engine's results; each program is compiled once."""
    return run_engine(directory, make_batch(lengths, num_slots=num_slots))


def assert_equal_results(session, directory, lengths, *, num_slots):
    """The file's results are the engine's."""
    feeds = feeds_of(make_batch(lengths, num_slots=num_slots))
    *logits, kept_BL = session.run(None, feeds)
    expected, expected_kept_BL = engine_results(directory, lengths, num_slots)
    found = logits[0] if len(logits) == 1 else np.stack(logits, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(kept_BL, expected_kept_BL)


@pytest.mark.parametrize("uses_contrib", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_equals_the_reference(saved_dir, session_of, method, uses_contrib):
    session = session_of(method, uses_contrib=uses_contrib)
    assert_equal_results(session, saved_dir(method), LENGTHS, num_slots=16)


@pytest.mark.parametrize("method", METHODS)
def test_answers_equal_the_reference(saved_dir, session_of, method):
    session = session_of(method, "span")
    assert [found.name for found in session.get_outputs()] == ["start_logits", "end_logits", "kept"]
    assert_equal_results(session, saved_dir(method, "span"), (12, 1, 7), num_slots=14)


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_pruned_file_drops_tokens(session_of, method):
    batch = make_batch((12, 9), num_slots=12)
    kept_BL = session_of(method).run(["kept"], feeds_of(batch))[0]
    valid_BL = np.asarray(batch.valid_BL)
    assert kept_BL[valid_BL].min() < CONFIG.num_layers and np.all(
        kept_BL[:, 0] == CONFIG.num_layers
    )


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    lengths=strategies.lists(strategies.integers(1, 16), min_size=1, max_size=6),
    padding=strategies.integers(0, 3),
    method=strategies.sampled_from(METHODS),
    seed=strategies.integers(0, 99),
)
def test_batch_mates_and_padding_do_not_matter(session_of, lengths, padding, method, seed):
    num_slots = min(16, max(lengths) + padding)
    batch = make_batch(lengths, num_slots=num_slots, seed=seed)
    feeds, session = feeds_of(batch), session_of(method)
    logits_BC, kept_BL = session.run(None, feeds)
    for row, length in enumerate(lengths):
        alone = {name: array[row : row + 1, :length] for name, array in feeds.items()}
        logits_1C, kept_1L = session.run(None, alone)
        np.testing.assert_allclose(logits_BC[row], logits_1C[0], rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(kept_BL[row, :length], kept_1L[0])
        assert not kept_BL[row, length:].any()


@pytest.mark.parametrize("method", METHODS)
def test_a_text_without_tokens_gets_zero_logits(session_of, method):
    batch = make_batch((7, 3), num_slots=8)
    feeds = feeds_of(batch)
    expected_BC, _ = session_of(method).run(None, feeds)
    feeds["attention_mask"][1] = 0
    logits_BC, kept_BL = session_of(method).run(None, feeds)
    np.testing.assert_allclose(logits_BC[0], expected_BC[0], rtol=0, atol=TOLERANCE)
    assert not logits_BC[1].any() and not kept_BL[1].any()
    feeds["attention_mask"][:] = 0
    logits_BC, kept_BL = session_of(method).run(None, feeds)
    assert not logits_BC.any() and not kept_BL.any()


@pytest.mark.parametrize("method", METHODS)
def test_padding_on_the_left_is_no_token(session_of, method):
    feeds = feeds_of(make_batch((7, 7), num_slots=12))
    feeds["attention_mask"][:] = np.arange(12) >= 5
    _, kept_BL = session_of(method).run(None, feeds)
    assert not kept_BL[:, :5].any() and np.all(kept_BL[:, 5] == CONFIG.num_layers)


def test_an_answer_of_a_text_without_tokens_is_zero(session_of):
    feeds = feeds_of(make_batch((7, 3), num_slots=8))
    feeds["attention_mask"][1] = 0
    start_BL, end_BL, _ = session_of("adapler", "span").run(None, feeds)
    assert not start_BL[1].any() and not end_BL[1].any() and start_BL[0, 7] == -10000.0


def test_everything_but_the_first_token_can_go(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler", threshold=1e6)
    session = open_session(build_model(load_model(directory)).SerializeToString())
    assert_equal_results(session, directory, (12, 5), num_slots=12)
    kept_BL = session.run(["kept"], feeds_of(make_batch((12, 5), num_slots=12)))[0]
    assert kept_BL[:, 0].tolist() == [4, 4] and not kept_BL[:, 1:].any()


@pytest.mark.parametrize(
    ("method", "mode", "values"),
    [
        ("adapler", THRESHOLDS, (1.2, 0.8, 0.0)),
        ("adapler", FIXED, (0.4, 0.7, 1.0)),
        ("attention", THRESHOLDS, (0.4, 0.7, 1.0)),
        ("vocabulary", THRESHOLDS, (0.4, 0.7, 1.0)),
    ],
)
def test_every_text_has_its_own_budget(tmp_path, method, mode, values):
    directory = save_tiny(tmp_path / "model", method)
    calibration = calibrate(directory, values, mode=mode)
    session = open_session(build_model(load_model(directory)).SerializeToString())
    budgets = [0.3, 0.45, 0.6, 0.9, 1.0, 0.1, np.nan]
    batch = make_batch((12,) * len(budgets), num_slots=12)
    budget_B = np.array(budgets, np.float32)
    logits_BC, kept_BL = session.run(None, feeds_of(batch) | {"budget": budget_B})
    expected_BC, expected_BL = run_engine(
        directory, batch.replace(budget_B=budget_B), calibration=calibration
    )
    np.testing.assert_allclose(logits_BC, expected_BC, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    assert kept_BL[0].sum() < kept_BL[4].sum() == 12 * CONFIG.num_layers
    one_BC, _ = session.run(None, feeds_of(batch) | {"budget": budget_B[1:2]})
    many_BC, _ = session.run(None, feeds_of(batch) | {"budget": np.repeat(budget_B[1:2], 7)})
    np.testing.assert_array_equal(one_BC, many_BC)


def test_without_a_budget_a_calibrated_file_has_the_trained_speed(tmp_path, session_of):
    directory = save_tiny(tmp_path / "model", "adapler")
    calibrate(directory, (1.2, 0.8, 0.0))
    session = open_session(build_model(load_model(directory)).SerializeToString())
    feeds = feeds_of(make_batch((12, 7), num_slots=12))
    assert [found.name for found in session.get_inputs()] == [*feeds]
    for found, expected in zip(session.run(None, feeds), session_of("adapler").run(None, feeds)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_options_have_a_logit_each(tmp_path):
    params = make_params()
    params["head"] = CLASSIFICATION.init(jax.random.key(2), CONFIG, 1)
    directory = save_model(
        tmp_path / "model", params, CONFIG, pruner_name="adapler", head=choice(4)
    )
    session = open_session(build_model(load_model(directory)).SerializeToString())
    assert_equal_results(session, directory, (12, 7, 3, 5), num_slots=12)
    assert session.get_outputs()[0].shape == ["batch", 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head_name", ["classification", "span"])
def test_standard_operators_pass_the_checker(saved_dir, method, head_name):
    model = build_model(load_model(saved_dir(method, head_name)), uses_contrib=False)
    onnx.checker.check_model(model, full_check=True)
    assert {found.domain for found in model.opset_import} == {""}


def test_quantized_products_change_few_numbers(saved_dir, session_of):
    directory = saved_dir("keep_all")
    model = build_model(load_model(directory), weight_bits=8)
    operators = [node.op_type for node in model.graph.node]
    # Of each layer query, key and value, the attention's output, and two of the feed-forward half;
    # the last layer's query is apart.
    assert operators.count("DynamicQuantizeMatMul") == 4 * CONFIG.num_layers + 1
    feeds = feeds_of(make_batch((12, 7), num_slots=12))
    logits_BC = open_session(model.SerializeToString()).run(["logits"], feeds)[0]
    expected_BC = session_of("keep_all").run(["logits"], feeds)[0]
    assert 0 < np.max(np.abs(logits_BC - expected_BC)) < 0.1 * np.max(np.abs(expected_BC))


def test_equal_models_give_equal_bytes(saved_dir):
    first, second = (
        build_model(load_model(saved_dir("adapler"))).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second


def test_an_opset_that_is_not_supported_is_named(saved_dir):
    with pytest.raises(ValueError, match="opset is 12; expected 20 to 23"):
        build_model(load_model(saved_dir("adapler")), opset=12)


@pytest.mark.parametrize("opset", [21, 22, 23])
def test_later_opsets_give_equal_logits(saved_dir, session_of, opset):
    model = build_model(load_model(saved_dir("adapler")), opset=opset)
    feeds = feeds_of(make_batch((12, 7), num_slots=12))
    found_BC = open_session(model.SerializeToString()).run(["logits"], feeds)[0]
    np.testing.assert_array_equal(found_BC, session_of("adapler").run(["logits"], feeds)[0])


def test_a_head_that_cannot_be_exported_is_named(tmp_path):
    head = make_head("candidates", num_candidates=3)
    directory = save_tiny(tmp_path / "model", "adapler", head=head)
    with pytest.raises(ValueError, match="has the head 'candidates'; ONNX files are for"):
        build_model(load_model(directory))
