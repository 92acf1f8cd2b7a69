"""Explained texts as bytes that a browser unpacks: texts once, a byte a word for its place, its layers and each score.

A chunk of examples is gzip in base64. Inside stand one line of JSON and then bytes, one stream after the other, each
over all words of the chunk in the order of its texts:

    {"texts": [[text, ...], ...], "words": [[words of each text], ...], "unread": [[characters ...], ...],
     "top": [largest score of each example, ...], "levels": n}
    starts, ends  how far a word starts behind the blanks that follow the word before it, and ends behind the run of
                  letters and digits, or the one other character, that it starts with: 0 nearly always
    layers        that ran on the word
    scores        a site after the other, of the words that were still there when it scored

Distances are in UTF-16 units, as browsers count: d is written as 2 d, or -2 d - 1 below 0, in as many bytes of 255 as
fit and one more. A score is top * (byte / n)^3, which is fine enough near 0 for shares of long texts and near 1 for
probabilities.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Sequence

import numpy as np

from adapler_jax.inference.explanation import Explanation

CHUNK_SIZE = 128  # examples; a browser unpacks a chunk when it draws one of them
SHOWN_UNREAD = 300  # characters of a text behind what the model read
_WIDE = 255
# The script has the same two; what they find is only expected, so that they need not be any tokenizer's.
_BLANKS = re.compile(r"[ \t\r\n]*")
_RUN = re.compile(r"[A-Za-z0-9\u0080-\U0010ffff]+|[\x00-\x7f]?")


def pack_chunk(explanations: Sequence[Explanation], *, num_levels: int) -> str:
    """The chunk of some examples of one model, ASCII; num_levels: how finely scores are told, at most 255."""
    texts, words, unread, moves = [], [], [], [np.zeros((0, 2), int)]
    for explanation in explanations:
        parts = [pack_text(explanation, part) for part in range(len(explanation.prediction.texts))]
        texts.append([text for text, _, _ in parts])
        unread.append([num_unread for _, num_unread, _ in parts])
        words.append([len(move_W2) for _, _, move_W2 in parts])
        moves += [move_W2 for _, _, move_W2 in parts]
    top = [float(f"{explanation.score_NW.max(initial=0.0):.3g}") for explanation in explanations]
    header = {"texts": texts, "words": words, "unread": unread, "top": top, "levels": num_levels}
    streams = [move_bytes(move_W) for move_W in np.concatenate(moves).T]
    streams += [explanation.layers_W.astype(np.uint8).tobytes() for explanation in explanations]
    streams += pack_scores(explanations, top, num_levels)
    content = json.dumps(header, ensure_ascii=False).encode() + b"\n" + b"".join(streams)
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def pack_text(explanation: Explanation, part: int) -> tuple[str, int, np.ndarray]:
    """A text up to a little behind its last word that was read, the characters left out there, and how far its words
    start and end from where they are expected to, int [words, 2].
    """
    whole = explanation.prediction.texts[part]
    words = [word for word in explanation.prediction.words if word.part == part]
    text = whole[: max((word.end for word in words), default=0) + SHOWN_UNREAD]
    unit_C, moves, done = utf16_places(text), [], 0
    for word in words:
        expected = _BLANKS.match(text, done).end()
        start = max(word.start, done)  # spans that overlap would shift all that follow
        moves.append(
            (
                unit_C[start] - unit_C[expected],
                unit_C[max(word.end, start)] - unit_C[_RUN.match(text, start).end()],
            )
        )
        done = max(word.end, start)
    return text, len(whole) - len(text), np.array(moves, int).reshape(-1, 2)


def utf16_places(text: str) -> np.ndarray:
    """Where each character starts, and where the text ends, in the units that browsers count, int [characters + 1]."""
    code_C = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.concatenate([[0], np.cumsum(1 + (code_C > 0xFFFF))]).astype(int)


def pack_scores(
    explanations: Sequence[Explanation], top: Sequence[float], num_levels: int
) -> Iterable[bytes]:
    """The scores, a stream a site; a word was scored where it ran through all layers before."""
    levels = [
        score_levels(explanation.score_NW, highest, num_levels)
        for explanation, highest in zip(explanations, top)
    ]
    for layer in explanations[0].site_layers if explanations else ():
        for level_NW, explanation in zip(levels, explanations):
            yield level_NW[layer, explanation.layers_W >= layer].tobytes()


def score_levels(score_X: np.ndarray, top: float, num_levels: int) -> np.ndarray:
    """Scores as uint8 of the same shape, 0 to num_levels: num_levels times their third roots, rounded.

    The cubes of the halves between levels are searched, since processors round third roots differently.
    """
    half_K = (np.arange(num_levels) + 0.5) / num_levels
    return np.searchsorted(
        half_K * half_K * half_K, score_X / max(top, 1e-30), side="right"
    ).astype(np.uint8)


def move_bytes(move_W: np.ndarray) -> bytes:
    """Whole numbers, small ones in a byte."""
    value_W = np.where(move_W < 0, -2 * move_W - 1, 2 * move_W)
    num_W = value_W // _WIDE + 1
    packed = np.full(int(num_W.sum()), _WIDE, np.uint8)
    packed[np.cumsum(num_W) - 1] = value_W % _WIDE
    return packed.tobytes()
