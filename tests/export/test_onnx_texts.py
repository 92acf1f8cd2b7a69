"""Tokens of ragged texts reach their padded slots, and come back in order.

Letters besides the key of `types.py`:

    W all slots of the padded form, B R
"""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax.export.onnx.texts import lay_out, select, take, take_first, true_slots, unpad
from tests.export.onnx_graphs import make_model, open_graph, run_graph

# Three, one and two tokens, with a hole in the first text; no text has the last slot.
HOLED = np.array([[1, 0, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]], bool)
LAYOUT = {
    "num_B1": np.int64,
    "start_B1": np.int64,
    "lane_R": np.int64,
    "valid_BR": np.bool_,
    "index_BR": np.int64,
}


# Masks, and their layouts in the order of LAYOUT.
BY_HAND = {
    "ragged": (
        HOLED,
        [[3], [1], [2]],
        [[0], [3], [4]],
        [0, 1, 2],
        [[1, 1, 1], [1, 0, 0], [1, 1, 0]],
        [[0, 1, 2], [3, 0, 0], [4, 5, 0]],
    ),
    "one text": (np.array([[True, True, False]]), [[2]], [[0]], [0, 1], [[1, 1]], [[0, 1]]),
    "one token each": (np.eye(2)[[0, 0]] > 0, [[1], [1]], [[0], [1]], [0], [[1], [1]], [[0], [1]]),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_layout_by_hand(case):
    mask_BX, *expected = BY_HAND[case]
    found = run_graph(lambda graph: list(lay_out(graph, "mask_BX")), {"mask_BX": mask_BX}, LAYOUT)
    assert [array.tolist() for array in found] == expected


def test_slots_and_entries_under_a_mask_by_hand():
    x_BX = 10.0 * np.arange(15, dtype=np.float32).reshape(3, 5)

    def build(graph):
        slot_T = true_slots(graph, "mask_BX")
        nothing_BX = graph.add("And", "mask_BX", False)
        return [slot_T, select(graph, "x_BX", "mask_BX"), select(graph, "x_BX", nothing_BX)]

    kinds = {"slot_T": np.int64, "selected_T": np.float32, "nothing_T": np.float32}
    slot_T, selected_T, nothing_T = run_graph(build, {"x_BX": x_BX, "mask_BX": HOLED}, kinds)
    assert slot_T.tolist() == [0, 2, 3, 5, 10, 11]
    assert selected_T.tolist() == [0, 20, 30, 50, 100, 110] and nothing_T.shape == (0,)


def test_rows_by_hand():
    """Rows of [CLS] are 0, 3 and 4; padded rows 4, 5 and 8 are padding."""

    def build(graph):
        texts = lay_out(graph, "mask_BX")
        return [take_first(graph, texts, "x_TD"), unpad(graph, texts, "padded_WD")]

    feeds = {
        "mask_BX": HOLED,
        "x_TD": np.float32([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]),
        "padded_WD": np.arange(9, dtype=np.float32)[:, None],
    }
    kinds = {"first_BD": np.float32, "tokens_TD": np.float32}
    first_BD, tokens_TD = run_graph(build, feeds, kinds)
    assert first_BD.tolist() == [[0, 1], [6, 7], [8, 9]]
    assert tokens_TD.tolist() == [[0], [1], [2], [3], [6], [7]]


# Properties


@functools.cache
def round_trip():
    """A session that pads tokens, takes the padding out again, and drops some of them."""

    def build(graph):
        texts = lay_out(graph, "mask_BX")
        padded_BRD = take(graph, "x_TD", texts.index_BR)
        tokens_TD = unpad(graph, texts, graph.add("Reshape", padded_BRD, (-1, 2)))
        kept_T = select(graph, texts.index_BR, graph.add("And", "keep_BR", texts.valid_BR))
        return [padded_BRD, tokens_TD, take(graph, "x_TD", kept_T)]

    inputs = {"mask_BX": np.bool_, "x_TD": np.float32, "keep_BR": np.bool_}
    outputs = {"padded_BRD": np.float32, "tokens_TD": np.float32, "kept_TD": np.float32}
    return open_graph(make_model(build, inputs, outputs))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    num_more_slots=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_padding_and_its_removal_keep_all_tokens_in_order(lengths, num_more_slots, seed):
    rng = np.random.default_rng(seed)
    num_slots = max(lengths) + num_more_slots
    # The tokens are anywhere in their texts; [CLS] is the first.
    mask_BX = np.zeros((len(lengths), num_slots), bool)
    for row, length in enumerate(lengths):
        mask_BX[row, 0] = True
        mask_BX[row, 1 + rng.permutation(num_slots - 1)[: length - 1]] = True
    x_TD = rng.normal(size=(sum(lengths), 2)).astype(np.float32)
    keep_BR = rng.random((len(lengths), max(lengths))) < 0.5
    feeds = {"mask_BX": mask_BX, "x_TD": x_TD, "keep_BR": keep_BR}
    padded_BRD, tokens_TD, kept_TD = round_trip().run(None, feeds)
    np.testing.assert_array_equal(tokens_TD, x_TD)
    starts = np.cumsum([0, *lengths])
    kept = []
    for row, length in enumerate(lengths):
        text_LD = x_TD[starts[row] : starts[row + 1]]
        np.testing.assert_array_equal(padded_BRD[row, :length], text_LD)
        kept.append(text_LD[keep_BR[row, :length]])
    np.testing.assert_array_equal(kept_TD, np.concatenate(kept))


@functools.cache
def selection():
    """A session that selects the entries under a mask."""

    def build(graph):
        return [select(graph, "x_BX", "mask_BX")]

    inputs = {"x_BX": np.int64, "mask_BX": np.bool_}
    return open_graph(make_model(build, inputs, {"selected_T": np.int64}))


@settings(max_examples=40, deadline=None)
@given(entries=st.lists(st.booleans(), min_size=1, max_size=24), num_rows=st.integers(1, 4))
def test_select_keeps_the_order_of_the_entries(entries, num_rows):
    mask_BX = np.array([entries[row:] + entries[:row] for row in range(num_rows)])
    x_BX = np.random.default_rng(len(entries)).integers(0, 99, mask_BX.shape)
    (found_T,) = selection().run(None, {"x_BX": x_BX, "mask_BX": mask_BX})
    assert found_T.tolist() == x_BX[mask_BX].tolist()
