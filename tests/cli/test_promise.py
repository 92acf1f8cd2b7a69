"""The flags of promises and latencies become the arguments of a calibration."""

import pytest
from absl import flags

from adapler_jax.cli.evaluate import parse_budgets
from adapler_jax.cli.flag_errors import explain_flag_error
from adapler_jax.cli.promise import define_latency, define_promise
from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.certificate import NONE, Promise
from adapler_jax.inference.calibration import OWN


def parsed(define, *arguments):
    """Return the value of a definition for a command line."""
    values = flags.FlagValues()
    result = define(values)
    values(["adapler", *arguments])
    return result()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), None),
        (("--confidence=0.9",), None),  # a confidence alone promises nothing
        (("--max_disagreement=0.02",), Promise(0.02)),
        (("--max_disagreement=0.02", "--confidence=0.9"), Promise(0.02, confidence=0.9)),
        (("--max_disagreement=0.02", "--escalate_to=none"), Promise(0.02, escalates_to=NONE)),
        (("--max_disagreement=0.02", "--escalate_to=own"), Promise(0.02, escalates_to=OWN)),
        (("--max_drop=1.5",), Promise(0.015, needs_labels=True)),
        (
            ("--max_drop=1", "--escalate_to=none"),
            Promise(0.01, needs_labels=True, escalates_to=NONE),
        ),
    ],
)
def test_a_promise_is_a_rate_of_failures(arguments, expected):
    assert parsed(define_promise, *arguments) == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--max_disagreement=0", "--max_disagreement is 0.0; expected a share of answers between"),
        ("--max_disagreement=5", "--max_disagreement is 5.0; expected a share of answers between"),
        ("--max_drop=0", "--max_drop is 0.0; expected points between 0 and 100"),
        ("--max_drop=100", "--max_drop is 100.0; expected points between 0 and 100"),
    ],
)
def test_a_promise_out_of_its_range_names_its_flag(argument, message):
    with pytest.raises(ValueError, match=message):
        parsed(define_promise, argument)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("speedup", "0.5", "--speedup is 0.5; expected at least 1.0"),
        ("speedup", "fast", "--speedup is 'fast'; expected a number"),
        ("number", "0", "--number is 0; expected at least 1"),
        ("number", "1.5", "--number is '1.5'; expected a whole number"),
        ("examples", "-1", "--examples is -1; expected at least 0"),
    ],
)
def test_a_flag_of_a_wrong_value_says_what_is_expected(flag, value, message):
    values = flags.FlagValues()
    flags.DEFINE_float("speedup", 2.0, "", lower_bound=1.0, flag_values=values)
    flags.DEFINE_integer("number", 1, "", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("examples", 1, "", lower_bound=0, flag_values=values)
    with pytest.raises(flags.IllegalFlagValueError) as caught:
        values(["adapler", f"--{flag}={value}"])
    assert explain_flag_error(str(caught.value)) == message


def test_two_promises_are_one_too_many():
    with pytest.raises(ValueError, match="--max_disagreement and --max_drop are both given"):
        parsed(define_promise, "--max_disagreement=0.02", "--max_drop=1")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), None),
        (("--batch_size=8",), None),
        (("--latency_ms=20",), Latency(20.0, batch_size=1)),
        (("--latency_ms=0.5", "--batch_size=8"), Latency(0.5, batch_size=8)),
    ],
)
def test_a_latency_is_of_calls_of_one_text_unless_they_have_more(arguments, expected):
    assert parsed(define_latency, *arguments) == expected


def test_a_batch_has_at_least_one_text():
    with pytest.raises(flags.IllegalFlagValueError, match="batch_size"):
        parsed(define_latency, "--latency_ms=20", "--batch_size=0")


def test_budgets_of_an_evaluation_are_numbers_in_0_to_1():
    assert parse_budgets([]) == []
    assert parse_budgets(["0.3", "1"]) == [0.3, 1.0]


@pytest.mark.parametrize("texts", [["0"], ["1.1"], ["-0.5"], ["half"], ["0.5", ""], ["nan"]])
def test_other_budgets_are_rejected_with_the_flag(texts):
    with pytest.raises(ValueError, match=f"--budgets={','.join(texts)}; expected numbers above 0"):
        parse_budgets(texts)
