"""Teacher logits follow their example into batches of any length."""

import numpy as np
import pytest

from adapler_jax.data.batching.padding import (
    PerExampleArrays,
    add_example_arrays,
    axes_of,
    check_example_arrays,
    pad_batch,
)
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.tokenization.tokens import Tokenized

ROWS = [[1, 2, 3], [4, 5]]
IDS = [2, 0]


def added(teacher_logits, *, length=4, batch_size=3):
    """Return the teacher logits of examples 2 and 0, and of a padding example."""
    batch = pad_batch(ROWS, length=length, batch_size=batch_size, example_ids=IDS)
    return add_example_arrays(
        batch, np.array([3, 2]), PerExampleArrays(teacher_logits=teacher_logits)
    ).teacher_logits


def test_logits_of_classes_are_looked_up_and_padding_examples_have_0():
    found = added(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32))
    assert found.tolist() == [[5, 6], [1, 2], [0, 0]] and found.dtype == np.float32


@pytest.mark.parametrize("length", [3, 6])
def test_logits_of_tokens_are_cut_or_padded_to_the_batch(length):
    """The table has 5 token slots."""
    table = np.arange(1.0, 31.0, dtype=np.float32).reshape(3, 5, 2)
    found = added(table, length=length)
    assert found.shape == (3, length, 2) and not found[2].any() and not found[:, 5:].any()
    np.testing.assert_array_equal(found[:2, :5], table[IDS][:, :length])


def test_names_say_which_arrays_of_a_dict_have_token_slots():
    """The number of sentences stays even if it equals the number of slots in the table."""
    table = np.arange(1.0, 31.0, dtype=np.float32).reshape(3, 5, 2)
    found = added({"span_BL2": table, "support_BX2": table, "type_B3": table[:, 0]})
    assert {name: rows.shape for name, rows in found.items()} == {
        "span_BL2": (3, 4, 2),
        "support_BX2": (3, 5, 2),
        "type_B3": (3, 2),
    }
    np.testing.assert_array_equal(found["support_BX2"][:2], table[IDS])
    np.testing.assert_array_equal(found["span_BL2"][:2], table[IDS][:, :4])
    assert not any(rows[2].any() for rows in found.values())


def test_axes_are_the_letters_after_the_last_underscore():
    assert (axes_of("sentence_support_BX2"), axes_of("logits_BL2")) == ("BX2", "BL2")


def test_a_dict_that_lacks_an_example_is_rejected():
    tokens = Ragged(np.ones(5, np.int32), np.array([0, 3, 5]))
    tokenized = Tokenized(tokens, tokens, np.zeros(2, np.int32), np.array([0, 2], np.int32))
    whole, short = np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float32)
    check_example_arrays(tokenized, PerExampleArrays(teacher_logits={"type_B3": whole}))
    with pytest.raises(
        ValueError, match="teacher logits of 2 examples, but the data has the example id 2"
    ):
        check_example_arrays(
            tokenized, PerExampleArrays(teacher_logits={"span_BL2": whole, "type_B3": short})
        )
