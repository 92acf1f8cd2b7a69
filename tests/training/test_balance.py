"""Classes of different sizes count alike, by weights or by repeated rows."""

import itertools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from adapler_jax.data.batching.batches import train_batches
from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.data.batching.ragged import ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.pruning import keep_all
from adapler_jax.training.balance import balance, balanced_rows, check_balance, class_weights
from adapler_jax.training.losses import LossConfig, compute_losses
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.policy import PolicyConfig, combine
from adapler_jax.training.run import run_all
from tests import tiny

LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 3], np.int32)


def test_weights_are_those_of_scikit_learn_and_their_mean_over_the_examples_is_one():
    """compute_class_weight("balanced", classes=[0, 1, 3], y=...) is 8 / (3 * [5, 2, 1])."""
    found = class_weights(LABELS, 4)
    np.testing.assert_allclose(found, [8 / 15, 8 / 6, 1.0, 8 / 3])
    assert np.mean(np.array(found)[LABELS]) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_smaller_classes_are_repeated_equally_often(seed):
    rows = balanced_rows(LABELS, seed)
    assert np.bincount(LABELS[rows]).tolist() == [5, 5, 0, 5]
    counts = np.bincount(rows)
    assert counts[:5].tolist() == [1] * 5 and sorted(counts[5:7]) == [2, 3] and counts[7] == 5
    np.testing.assert_array_equal(rows, balanced_rows(LABELS, seed))


def test_repeated_rows_keep_tokens_labels_ids_and_marks():
    tokens = ragged([np.arange(place + 1) for place in range(8)], np.int32)
    ids = np.arange(8, dtype=np.int32) + 10
    found = balance(Tokenized(tokens, tokens, LABELS, ids, {"span": ids[:, None]}), seed=0)
    assert len(found) == 15
    for row, identity in enumerate(found.example_ids):
        assert (
            found.tokens[row].tolist() == found.segments[row].tolist() == list(range(identity - 9))
        )
        assert found.labels[row] == LABELS[identity - 10] and found.head_slots["span"][row] == [
            identity
        ]


def test_weights_multiply_the_loss_of_their_examples_and_nothing_else():
    params, batch = tiny.make_params(keep_all()), tiny.make_batch(num_fillers=1)

    def run(class_weights):
        losses = LossConfig(distil_coef=0.3, class_weights=class_weights)
        return compute_losses(
            params, tiny.CONFIG, keep_all(), batch, losses, slope=None, key=None, dtype=jnp.float32
        )[1]

    plain, ones, weighted = run(()), run((1.0, 1.0, 1.0)), run((0.5, 2.0, 4.0))
    assert plain == ones and plain["accuracy"] == weighted["accuracy"]
    alone = [run(tuple(np.eye(3)[label].tolist()))["main"] for label in range(3)]
    assert weighted["main"] == pytest.approx(float(np.dot(alone, [0.5, 2.0, 4.0])), rel=1e-5)
    assert plain["main"] == pytest.approx(float(sum(alone)), rel=1e-5)


def test_the_reward_of_a_policy_takes_the_weighted_loss():
    batch = tiny.make_batch()
    task_KB = jax.random.uniform(jax.random.key(0), (2, 4))
    found = {"task": task_KB, "share": task_KB, "nll": task_KB, "accuracy": task_KB}
    assert combine(found, batch, PolicyConfig(length_coef=0.0))[1]["reward"] == -jnp.mean(task_KB)
    assert PolicyConfig(length_coef=0.0).class_weights == ()


def test_saliency_and_soft_labels_follow_repeated_rows():
    tokens = ragged([np.full(3, place + 1) for place in range(8)], np.int32)
    split = Tokenized(tokens, tokens, LABELS, np.arange(8, dtype=np.int32))
    saliency = np.arange(8, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    extras = PerExampleArrays(
        saliency=saliency, teacher_logits=np.arange(16, dtype=np.float32).reshape(8, 2)
    )
    found = balance(split, seed=0)
    batches = train_batches(found, batch_size=5, lengths=(4,), seed=0, example_arrays=extras)
    for batch in itertools.islice(batches, 3):
        np.testing.assert_array_equal(batch.token_BL[:, 0], batch.example_id_B + 1)
        np.testing.assert_array_equal(batch.saliency_BL[:, 0], batch.example_id_B)
        np.testing.assert_array_equal(batch.teacher_logits[:, 0], 2 * batch.example_id_B)


@pytest.mark.parametrize("field", [{"class_weight": "balanced"}, {"balanced_sampling": True}])
def test_tasks_without_classes_have_none_to_balance(field):
    config = ml_collections.ConfigDict({"task": "squad", **field})
    check_balance(config, has_classes=True)
    with pytest.raises(
        ValueError, match=f"config.{next(iter(field))} is of classes, and task 'squad' has none"
    ):
        check_balance(config, has_classes=False)


@pytest.mark.long
def test_both_fields_reach_the_training_step(make_config, tmp_path):
    """Of 96 tiny texts the classes differ by a few: other losses, of balanced rows another number
    of steps."""
    lines = {}
    fields = {
        "plain": {},
        "weights": {"class_weight": "balanced"},
        "rows": {"balanced_sampling": True},
    }
    for name, changes in fields.items():
        run_all(make_config(method="finetune", **changes), tmp_path / name, log=lambda _: None)
        lines[name] = [
            line
            for line in read_metrics_log(tmp_path / name / "finetune")
            if line["group"] == "train"
        ]
    assert len(lines["weights"]) == len(lines["plain"]) <= len(lines["rows"])
    assert len({line[0]["task"] for line in lines.values()}) == 3
