"""Batches are pure functions of (seed, epoch, step), of few shapes, and lose no example."""

import itertools

import chex
import numpy as np
import pytest

from adapler_jax.data.batching.batches import (
    eval_batches,
    num_steps_per_epoch,
    shuffle_epoch,
    train_batches,
)
from adapler_jax.data.batching.lengths import (
    batch_lengths,
    bucket_for,
    check_lengths,
    default_lengths,
)
from adapler_jax.data.batching.padding import PerExampleArrays, pad_batch
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.types import PADDING_EXAMPLE_ID

LENGTHS = (4, 8, 16)
COUNTS = np.random.default_rng(0).integers(2, 17, 53)


def _take(tokenized, count, **options):
    options = {"batch_size": 8, "lengths": LENGTHS, "seed": 5} | options
    return list(itertools.islice(train_batches(tokenized, **options), count))


def _ids(batches):
    return [batch.example_id_B.tolist() for batch in batches]


def test_a_batch_holds_its_examples_padded_on_the_right(make_tokenized):
    for batch in _take(make_tokenized(COUNTS), 6):
        length = batch.token_BL.shape[1]
        assert (batch.token_BL.dtype, batch.segment_BL.dtype, batch.valid_BL.dtype) == (
            np.int32,
            np.int32,
            bool,
        )
        assert batch.label_B.dtype == batch.example_id_B.dtype == np.int32
        np.testing.assert_array_equal(batch.valid_BL.sum(1), COUNTS[batch.example_id_B])
        np.testing.assert_array_equal(
            batch.token_BL, np.where(batch.valid_BL, batch.example_id_B[:, None] + 1, 0)
        )
        np.testing.assert_array_equal(batch.label_B, batch.example_id_B % 2)
        assert length == bucket_for(COUNTS[batch.example_id_B].max(), LENGTHS)
        assert batch.saliency_BL is None and batch.teacher_logits is None


def test_an_epoch_holds_each_example_at_most_once_and_leaves_out_less_than_a_batch(make_tokenized):
    num_steps = num_steps_per_epoch(53, 8)
    ids = np.concatenate(_ids(_take(make_tokenized(COUNTS), num_steps)))
    assert num_steps == 6 and len(ids) == len(set(ids)) == 48


def test_every_epoch_has_another_order_and_other_left_out_examples(make_tokenized):
    ids = _ids(_take(make_tokenized(COUNTS), 18))
    epochs = [ids[start : start + 6] for start in (0, 6, 12)]
    assert epochs[0] != epochs[1] != epochs[2]
    left_out = [
        frozenset(range(53)) - frozenset(np.concatenate(epoch).tolist()) for epoch in epochs
    ]
    assert len(set(left_out)) == 3 and all(len(rows) == 5 for rows in left_out)


def test_the_seed_alone_decides_the_order(make_tokenized):
    tokenized = make_tokenized(COUNTS)
    assert _ids(_take(tokenized, 12)) == _ids(_take(tokenized, 12))
    assert _ids(_take(tokenized, 12)) != _ids(_take(tokenized, 12, seed=6))


@pytest.mark.parametrize("start", [1, 5, 6, 13])
def test_a_later_start_step_yields_the_batches_of_an_uninterrupted_run(make_tokenized, start):
    tokenized = make_tokenized(COUNTS)
    whole = _take(tokenized, 20)
    resumed = _take(tokenized, 20 - start, start_step=start)
    for expected, found in zip(whole[start:], resumed, strict=True):
        chex.assert_trees_all_equal(expected, found)


def test_the_state_of_the_iterator_resumes_it(make_tokenized):
    batches = train_batches(make_tokenized(COUNTS), batch_size=8, lengths=LENGTHS, seed=5)
    for _ in range(4):
        next(batches)
    state = batches.get_state()
    expected = next(batches).example_id_B
    batches.set_state(state)
    np.testing.assert_array_equal(next(batches).example_id_B, expected)


def test_there_are_no_more_shapes_than_lengths_and_both_epochs_and_evaluation_share_them(
    make_tokenized,
):
    tokenized = make_tokenized(COUNTS)
    batches = _take(tokenized, 30) + list(eval_batches(tokenized, batch_size=8, lengths=LENGTHS))
    assert {batch.token_BL.shape for batch in batches} <= {(8, length) for length in LENGTHS}


def test_grouping_by_length_saves_padding(make_tokenized):
    counts = np.random.default_rng(1).choice([4, 16], 256)
    slots = sum(batch.token_BL.size for batch in _take(make_tokenized(counts), 32))
    assert slots < 1.1 * counts.sum()


def test_no_length_is_left_out_more_often_than_another():
    counts = np.array([3] * 10 + [15] * 5)
    seen = np.zeros(15)
    for epoch in range(1000):
        rows = np.concatenate(
            shuffle_epoch(counts, batch_size=8, lengths=LENGTHS, seed=0, epoch=epoch)
        )
        seen[rows] += 1
    assert seen.sum() == 1000 * 8
    # Five standard deviations. Leaving out the longest would give 800.
    assert abs(seen[:10].mean() - seen[10:].mean()) < 45


def test_padding_examples_fill_up_a_set_smaller_than_a_batch(make_tokenized):
    assert num_steps_per_epoch(3, 8) == 1
    for batch in _take(make_tokenized([3, 7, 5]), 3):
        is_padding = batch.example_id_B == PADDING_EXAMPLE_ID
        assert sorted(batch.example_id_B) == [PADDING_EXAMPLE_ID] * 5 + [0, 1, 2]
        assert batch.valid_BL[:, 0].all() and (batch.valid_BL[is_padding].sum(1) == 1).all()
        assert batch.token_BL.shape == (8, 8)


def test_evaluation_holds_every_example_once_sorted_and_filled(make_tokenized):
    lazy = eval_batches(make_tokenized(COUNTS), batch_size=8, lengths=LENGTHS)
    batches = list(lazy)
    assert len(lazy) == len(batches) == len(list(lazy))  # a second pass yields all batches again
    for batch, part in zip(batches[1::2], lazy[1::2], strict=True):
        np.testing.assert_array_equal(batch.token_BL, part.token_BL)
    ids = np.concatenate(_ids(batches))
    assert len(batches) == 7 and sorted(ids) == [PADDING_EXAMPLE_ID] * 3 + list(range(53))
    assert (np.diff(COUNTS[ids[ids != PADDING_EXAMPLE_ID]]) >= 0).all()
    is_padding = batches[-1].example_id_B == PADDING_EXAMPLE_ID
    assert is_padding.sum() == 3 and (batches[-1].valid_BL[is_padding].sum(1) == 1).all()
    assert all(batch.valid_BL[:, 0].all() for batch in batches)


@pytest.mark.parametrize("dense", [False, True])
def test_example_arrays_follow_their_example(make_tokenized, dense):
    tokenized = make_tokenized(COUNTS)
    ragged = Ragged(
        np.repeat(np.arange(53) / 10, COUNTS).astype(np.float32), tokenized.tokens.offsets
    )
    table = np.zeros((53, 16), np.float32)
    for row in range(53):
        table[row, : COUNTS[row]] = ragged[row]
    logits = np.stack([np.arange(53), -np.arange(53)], 1).astype(np.float32)
    arrays = PerExampleArrays(saliency=table if dense else ragged, teacher_logits=logits)
    evaluated = list(eval_batches(tokenized, batch_size=8, lengths=LENGTHS, example_arrays=arrays))
    for batch in _take(tokenized, 12, example_arrays=arrays) + evaluated:
        ids = np.where(batch.example_id_B == PADDING_EXAMPLE_ID, 0, batch.example_id_B)
        real = batch.example_id_B != PADDING_EXAMPLE_ID
        expected = np.where(batch.valid_BL & real[:, None], ids[:, None] / np.float32(10), 0)
        np.testing.assert_allclose(batch.saliency_BL, expected, rtol=1e-6)
        np.testing.assert_array_equal(batch.teacher_logits, logits[ids] * real[:, None])
        assert batch.saliency_BL.dtype == batch.teacher_logits.dtype == np.float32


def test_example_arrays_of_other_data_are_rejected(make_tokenized):
    tokenized = make_tokenized([3, 4, 5])
    with pytest.raises(
        ValueError, match="teacher logits of 2 examples, but the data has the example id 2"
    ):
        _take(tokenized, 1, example_arrays=PerExampleArrays(teacher_logits=np.zeros((2, 2))))
    wrong = Ragged(np.zeros(12, np.float32), np.array([0, 3, 8, 12]))
    with pytest.raises(
        ValueError, match="saliency of example 1 has another length than its 4 tokens"
    ):
        _take(tokenized, 1, example_arrays=PerExampleArrays(saliency=wrong))


def test_raw_token_lists_are_padded_for_inference():
    batch = pad_batch([[2, 7, 3], [2, 3]], length=4, batch_size=3)
    assert batch.token_BL.tolist() == [[2, 7, 3, 0], [2, 3, 0, 0], [0, 0, 0, 0]]
    assert batch.valid_BL.tolist() == [
        [True] * 3 + [False],
        [True] * 2 + [False] * 2,
        [True] + [False] * 3,
    ]
    assert batch.example_id_B.tolist() == [0, 1, PADDING_EXAMPLE_ID] and not batch.segment_BL.any()
    assert pad_batch([[2, 3]], [[0, 1]], length=2).segment_BL.tolist() == [[0, 1]]
    assert pad_batch([], length=4, batch_size=1).example_id_B.tolist() == [PADDING_EXAMPLE_ID]
    with pytest.raises(ValueError, match="2 examples do not fit into a batch of 1"):
        pad_batch([[1], [2]], length=4, batch_size=1)
    with pytest.raises(ValueError, match="bucket 2 cannot hold 3 tokens"):
        pad_batch([[1, 2, 3]], length=2)


def test_invalid_arguments_are_rejected_before_the_first_batch(make_tokenized):
    for make in (lambda *args, **more: train_batches(*args, seed=0, **more), eval_batches):
        with pytest.raises(
            ValueError,
            match=r"16 cannot hold 20 tokens; add a larger size to config.data.bucket_lengths",
        ):
            make(make_tokenized([20, 3]), batch_size=2, lengths=LENGTHS)
        with pytest.raises(ValueError, match="there are no examples to batch"):
            make(make_tokenized([]), batch_size=2, lengths=LENGTHS)
        with pytest.raises(ValueError, match="batch size 0 holds no example"):
            make(make_tokenized([3]), batch_size=0, lengths=LENGTHS)
        with pytest.raises(ValueError, match="expected positive numbers in increasing order"):
            make(make_tokenized([3]), batch_size=2, lengths=(8, 8))


@pytest.mark.parametrize(("length", "bucket"), [(1, 4), (4, 4), (5, 8), (16, 16)])
def test_bucket_for_returns_the_smallest_bucket_that_holds_a_length(length, bucket):
    assert bucket_for(length, LENGTHS) == bucket


def test_a_full_bucket_names_its_field():
    with pytest.raises(
        ValueError,
        match=r"^bucket 64 cannot hold 71 kept tokens; "
        r"add a larger size to config.inference.buckets$",
    ):
        bucket_for(71, (32, 64), what="kept tokens", field="config.inference.buckets")


def test_no_length_is_above_the_maximum():
    assert batch_lengths((24, 40, 64), 48) == (24, 40, 48)
    assert batch_lengths((24, 48), 48) == (24, 48)
    assert batch_lengths((24, 40), 64) == (24, 40)
    assert batch_lengths((), 64) == default_lengths(64)


def test_default_lengths_grow_to_the_maximum():
    assert default_lengths(64) == (16, 24, 32, 40, 48, 56, 64)
    assert default_lengths(256) == (64, 96, 128, 160, 192, 224, 256)
    for max_length in range(3, 600):
        lengths = check_lengths(default_lengths(max_length))
        assert lengths[-1] == max_length and len(lengths) <= 7
    with pytest.raises(ValueError, match="max_length is 2; expected at least 3"):
        default_lengths(2)
