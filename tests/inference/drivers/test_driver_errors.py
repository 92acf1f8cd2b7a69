"""Arguments, pruners and batches that no driver can run raise an error."""

import jax
import numpy as np
import pytest

from adapler_jax.inference.engine import make_engine
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.types import BEFORE_ATTENTION, Site
from tests.inference.drivers.engines import CONFIG, FAST, PRUNER, PRUNERS, make_batch, params_of


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"buckets": ()},
            r"config.inference.buckets is \(\); expected positive numbers in increasing order",
        ),
        ({"buckets": (0, 4)}, r"config.inference.buckets is \(0, 4\)"),
        (
            {"buckets": (4, 24, 8)},
            r"config.inference.buckets is \(4, 24, 8\); expected .* in increasing order",
        ),
        ({"buckets": (8, 8, 24)}, r"config.inference.buckets is \(8, 8, 24\)"),
        ({"driver": "turbo"}, "unknown driver 'turbo'; there are auto, bucketed"),
        ({"expected_speedup": 0.0}, "expected_speedup is 0.0; expected a positive number"),
    ],
)
def test_bad_engine_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_engine(CONFIG, PRUNER, **arguments)


@pytest.mark.parametrize("driver", ["masked", *FAST])
@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (PRUNER.sites[::-1], "at most one site a layer, in order, all at one point"),
        (PRUNER.sites[:1] * 2, "at most one site a layer, in order, all at one point"),
        (
            PRUNER.sites[:1] + PRUNERS["powerbert"].sites[1:],
            "at most one site a layer, in order, all at one point",
        ),
        ((Site(4, BEFORE_ATTENTION),), r"has sites at layers \[4\], the encoder 4 layers"),
    ],
)
def test_sites_that_no_driver_serves_are_refused(sites, message, driver):
    with pytest.raises(ValueError, match=message):
        make_engine(CONFIG, PRUNER._replace(sites=sites), driver=driver)(
            params_of("adapler"), make_batch([4])
        )


@pytest.mark.parametrize("driver", FAST)
def test_fast_drivers_have_no_padding_to_treat_as_tokens(driver):
    with pytest.raises(ValueError, match="only the masked driver can"):
        make_engine(CONFIG, powerbert(CONFIG, counts_padding=True), driver=driver)(
            params_of("powerbert"), make_batch([4])
        )


@pytest.mark.parametrize("driver", ["auto", *FAST])
def test_batches_that_cannot_be_run_are_refused(driver):
    run = make_engine(CONFIG, PRUNER, driver=driver)
    with pytest.raises(
        ValueError, match="a batch of 41 token slots does not fit the encoder's 40 positions"
    ):
        long = jax.tree.map(lambda leaf: np.resize(leaf, (2, 41)[: leaf.ndim]), make_batch([3, 2]))
        run(params_of("adapler"), long.replace(valid_BL=np.ones((2, 41), bool)))
    with pytest.raises(ValueError, match="a batch of 0 rows"):
        run(params_of("adapler"), jax.tree.map(lambda leaf: leaf[:0], make_batch([3])))
    batch = make_batch([3, 2])
    with pytest.raises((ValueError, TypeError), match="shape"):
        run(params_of("adapler"), batch.replace(segment_BL=batch.segment_BL[:, :5]))
