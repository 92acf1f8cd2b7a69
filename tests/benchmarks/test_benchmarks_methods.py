import pytest

from adapler_jax.training.run import check_config, phase_list
from benchmarks.methods import DIALS, config_of, parse_dials, summarize
from benchmarks.plot_methods import curves

SHARED = {"dense_score": 0.9}
ROWS = [
    SHARED | {"method": "adapler", "dial": 2.0, "test_score": 0.8, "flops_speedup": 2.0, "training_s": 60.0},
    SHARED | {"method": "adapler", "dial": 2.0, "test_score": 0.9, "flops_speedup": 2.2, "training_s": None},
    SHARED | {"method": "trbert", "dial": 1.0, "test_score": 0.85, "flops_speedup": 1.5},
]


def test_dials_are_read_from_one_text():
    assert parse_dials("adapler=1.7,3;trbert=0.5") == {"adapler": (1.7, 3.0), "trbert": (0.5,)}
    with pytest.raises(ValueError, match="'adapler=fast'; expected METHOD=NUMBER,NUMBER"):
        parse_dials("adapler=fast")
    with pytest.raises(ValueError, match="unknown method 'bert'; there are adapler, powerbert, trbert"):
        parse_dials("bert=1")


@pytest.mark.parametrize("method", DIALS)
def test_a_dial_sets_the_fields_of_its_method(method):
    config = config_of(method, 2.0, task="rotten_tomatoes", seed=3, changes={"compute_dtype": "bfloat16"})
    check_config(config)
    assert config.seed == 3 and config.compute_dtype == "bfloat16"
    values = {name: config.to_dict()[name.split(".")[0]][name.split(".")[1]] for name in DIALS[method]}
    assert set(values.values()) == {(2.0,) if method == "adapler" else 2.0}
    assert phase_list(config)[0][0] == "finetune" and len(phase_list(config)) > 2


def test_means_and_deviations_are_over_the_seeds():
    first, second = summarize(ROWS)
    assert (first["method"], first["dial"], first["num_seeds"]) == ("adapler", 2.0, 2)
    assert first["test_score"] == pytest.approx(0.85) and first["test_score_sd"] == pytest.approx(0.005**0.5)
    assert first["training_s"] == 60.0 and "training_s" not in second
    assert second["test_score_sd"] is None
    found = curves([second, first])
    assert found["trbert"] == [(1.5, 85.0, 0.0)]
    assert found["adapler"] == [pytest.approx((2.1, 85.0, 100 * 0.005**0.5))]
