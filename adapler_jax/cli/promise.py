"""Define the flags of promises and latencies, which `calibrate` and `compress` have."""

from collections.abc import Callable

from absl import flags

from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.certificate import MIN_SHARED, NONE, Promise
from adapler_jax.inference.calibration import ESCALATIONS
from adapler_jax.metrics.ranking import TOP


def define_promise(values: flags.FlagValues) -> Callable[[], Promise | None]:
    """Define --max_disagreement, --max_drop, --confidence, --escalate_to and --min_shared.

    Returns:
      A function that returns the promise of the command line; None without one. It raises
      ValueError where there are two.
    """
    disagreement = flags.DEFINE_float(
        "max_disagreement",
        None,
        "certify the fastest budget at which at most this share of answers, or of queries of a "
        "reranker, differs from the full model's, as 0.02",
        flag_values=values,
    )
    drop = flags.DEFINE_float(
        "max_drop",
        None,
        "certify the fastest budget whose accuracy is at most so many points lower, as 1.0; needs "
        "--label",
        flag_values=values,
    )
    confidence = flags.DEFINE_float(
        "confidence", 0.95, "probability that the certified bound holds", flag_values=values
    )
    escalate_to = flags.DEFINE_enum(
        "escalate_to",
        None,
        (*ESCALATIONS, NONE),
        "what a classifier's certified answers run uncertain texts again on: the full model, whose "
        "copy is kept next to this one; this model with all tokens; or nothing; default: full",
        flag_values=values,
    )
    min_shared = flags.DEFINE_integer(
        "min_shared",
        MIN_SHARED,
        f"of a reranker: documents of the first {TOP} that the full model has there too, where a "
        "query does not differ",
        lower_bound=1,
        upper_bound=TOP,
        flag_values=values,
    )

    def promise() -> Promise | None:
        """Return the promise of the command line."""
        rate = _rate_of(disagreement.value, drop.value)
        if rate is None:
            return None
        return Promise(
            rate,
            confidence=confidence.value,
            needs_labels=drop.value is not None,
            escalates_to=escalate_to.value,
            min_shared=min_shared.value,
        )

    return promise


def _rate_of(disagreement: float | None, drop: float | None) -> float | None:
    """Return the bound on the rate of failures; None without one.

    Raises:
      ValueError: there are two, or it is out of its range.
    """
    if disagreement is not None and drop is not None:
        raise ValueError("--max_disagreement and --max_drop are both given; give one")
    if drop is not None and not 0.0 < drop < 100.0:
        raise ValueError(f"--max_drop is {drop}; expected points between 0 and 100, as 1.0")
    if disagreement is not None and not 0.0 < disagreement < 1.0:
        raise ValueError(
            f"--max_disagreement is {disagreement}; expected a share of answers between 0 and 1, "
            "as 0.02"
        )
    return disagreement if drop is None else drop / 100


def define_latency(values: flags.FlagValues) -> Callable[[], Latency | None]:
    """Define --latency_ms and --batch_size.

    Returns:
      A function that returns the latency of the command line; None without one.
    """
    milliseconds = flags.DEFINE_float(
        "latency_ms",
        None,
        "look for the largest budget whose calls take at most so long on this device",
        flag_values=values,
    )
    batch_size = flags.DEFINE_integer(
        "batch_size", 1, "texts of a call, for --latency_ms", lower_bound=1, flag_values=values
    )

    def latency() -> Latency | None:
        """Return the latency of the command line."""
        if milliseconds.value is None:
            return None
        return Latency(milliseconds.value, batch_size=batch_size.value)

    return latency
