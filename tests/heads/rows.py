"""Heads with random weights, and four rows for all of them.

The rows are two texts, a padding example, and a row without a token.
"""

import jax
import numpy as np

from adapler_jax import heads
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch
from tests.tiny import CONFIG, NUM_CLASSES

HEADS = {
    "classification": heads.CLASSIFICATION,
    "span": heads.SPAN,
    "choice": heads.choice(2),
    "candidates": heads.candidates(3),
    "hotpot": heads.hotpot(2),
    "multi_label": heads.MULTI_LABEL,
    "regression": heads.regression("sigmoid"),
    "embedding": heads.embedding(dense_dim=5),
    "token_classification": heads.TOKEN_CLASSIFICATION,
}
LENGTHS = (6, 4, 1, 0)
NOTHING = [-1, -1]
MARKS = {
    "span_BA2": [[[2, 3], [4, 4]], [[0, 0], NOTHING], [NOTHING] * 2, [NOTHING] * 2],
    "marker_BK": [[1, 3, 5], [2, 3, -1], [-1] * 3, [-1] * 3],
    "sentence_BX2": [[[1, 2], [3, 5]], [[1, 3], NOTHING], [NOTHING] * 2, [NOTHING] * 2],
    "label_BC": [[1, 0, 1], [0, 0, 0], [-1] * 3, [-1] * 3],
    "tag_BL": [[-1, 1, 2, -1, 0, -1], [-1, 2, 0, -1, -1, -1], [-1] * 6, [-1] * 6],
    "support_BX": [[1, 0], [0, -1], NOTHING, NOTHING],
}


def batch_of(lengths, labels=None, *, num_slots=None, teacher=None, **head_slots) -> Batch:
    """Rows of so many live tokens; the tokens themselves are all 0."""
    num_slots = num_slots or max(lengths)
    zero_BL = np.zeros((len(lengths), num_slots), np.int32)
    return Batch(
        token_BL=zero_BL,
        segment_BL=zero_BL,
        valid_BL=np.arange(num_slots) < np.array(lengths)[:, None],
        label_B=np.array([0] * len(lengths) if labels is None else labels, np.int32),
        example_id_B=np.arange(len(lengths), dtype=np.int32),
        teacher_logits=teacher,
        head_slots={name: np.array(slots, np.int32) for name, slots in head_slots.items()},
    )


def make_batch(num_slots=6, teacher=None) -> Batch:
    """The four rows."""
    batch = batch_of(LENGTHS, [1, 0, 0, 0], num_slots=num_slots, teacher=teacher, **MARKS)
    return batch.replace(
        example_id_B=np.array([0, 1, PADDING_EXAMPLE_ID, PADDING_EXAMPLE_ID], np.int32)
    )


def make_states(head, num_slots=6, seed=0):
    """Return the last states that a head needs, with large numbers on padding."""
    state_BLD = (
        np.random.default_rng(seed)
        .normal(size=(4, 8, CONFIG.hidden_dim))
        .astype(np.float32)[:, :num_slots]
    )
    state_BLD = np.where(make_batch(num_slots).valid_BL[..., None], state_BLD, np.float32(50.0))
    return state_BLD if head.needs_all_states else state_BLD[:, 0]


def make_params(head, seed=0):
    """The head's parameters."""
    return head.init(jax.random.key(seed), CONFIG, NUM_CLASSES)
