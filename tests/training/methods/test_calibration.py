"""AdapLeR's calibration: scale first, train on where it is worth it, keep the better model."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from adapler_jax.presets.sections import adapt_section
from adapler_jax.training import phases
from adapler_jax.training.methods import adapler as method
from adapler_jax.training.methods.adapler import better_model, is_worth_training
from adapler_jax.training.run import check_config, run_all
from adapler_jax.weights.save import load_model
from tests.tiny import assert_trees_equal

DENSE = {"score": 0.8}


def is_worth(speedup=2.0, trained=1.5, scaled=(0.8, 2.0), **options):
    """Return the decision for a speedup as trained and (score, speedup) as scaled."""
    return is_worth_training(
        ConfigDict(options),
        speedup=speedup,
        dense=DENSE,
        trained={"score": 0.8, "flops_speedup": trained},
        scaled=dict(zip(("score", "flops_speedup"), scaled)),
    )


@pytest.mark.parametrize("options", [adapt_section(), {}])
def test_a_model_is_trained_on_where_scaling_costs_more_than_the_limit(options):
    """0.5% of a score of 0.8 are 0.004. Older configs have no fields for it."""
    assert not is_worth(scaled=(0.7961, 2.0), **options)
    assert is_worth(scaled=(0.7959, 2.0), **options)
    assert is_worth(scaled=(0.8, 1.9), **options)  # out of reach by scaling
    assert not is_worth(trained=2.1, scaled=(0.5, 2.0), **options)


def test_always_and_never_ask_no_score():
    assert is_worth(train="always", trained=2.1)
    assert not is_worth(train="never", scaled=(0.1, 1.0))
    assert not is_worth(max_drop=0.1, scaled=(0.73, 2.0))


SCORES = st.fixed_dictionaries(
    {"score": st.sampled_from([0.5, 0.7, 0.8]), "flops_speedup": st.sampled_from([1.5, 1.9, 2.0])}
)


@given(SCORES, SCORES)
def test_the_kept_model_is_never_worse_than_the_scaled_one(scaled, trained_on):
    models = {"scaled": scaled, "trained_on": trained_on}
    kept = models[better_model(models, 2.0)]
    if scaled["flops_speedup"] >= 2.0:
        assert kept["flops_speedup"] >= 2.0 and kept["score"] >= scaled["score"]
    if scaled == trained_on or trained_on["flops_speedup"] < scaled["flops_speedup"]:
        assert better_model(models, 2.0) == "scaled"


def test_a_model_that_training_makes_worse_is_not_kept(copied_run, make_config, monkeypatch):
    """The trained model is wrecked: the calibration keeps the scaled one and records both."""
    workdir = copied_run("learned")

    def wreck(directory, context, params, options, *, speedup):
        return params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}

    monkeypatch.setattr(method, "_train_to_speedup", wreck)
    config = make_config(
        adapt__target_speedups=(1.4,),
        adapt__train="always",
        finetune__num_epochs=20,
        inference__buckets=(8, 16),
    )
    lines = []
    run_all(config, workdir, log=lines.append)
    done = phases.read_done(workdir / "adapt-1.4x")
    assert done["kept"] == "scaled" and done["trained_on"]["score"] < done["scaled"]["score"]
    assert done["validation"]["score"] == done["scaled"]["score"]
    start, kept = (load_model(workdir / name / "model") for name in ("adapler", "adapt-1.4x"))
    assert_trees_equal(kept.params["head"], start.params["head"])
    (line,) = (line for line in lines if line.startswith("adapt-1.4x: brought to 1.4x: scaled"))
    assert "; trained on, validation score" in line and "; the scaled model is kept" in line
    with config.unlocked():
        config.adapt.train = "never"
    run_all(config, workdir, log=lines.append)
    again = f"adapt-1.4x: finished before with config.adapt.train=always; remove {workdir}"
    assert any(line.startswith(again) for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapt__train": "maybe"}, "config.adapt.train is 'maybe'; expected auto or always or"),
        ({"adapt__max_drop": -0.1}, "config.adapt.max_drop is -0.1; expected 0.0 to 1.0"),
    ],
)
def test_a_field_out_of_its_range_is_rejected(make_config, changes, message):
    with pytest.raises(ValueError, match=message):
        check_config(make_config(**changes))
