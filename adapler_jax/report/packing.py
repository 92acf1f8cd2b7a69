"""Pack explained texts as bytes for the page's script.

A chunk of examples is gzip in base64. It has one line of JSON and then streams of bytes. Each
stream is over all words of the chunk, in the order of its texts:

    {"texts": [[text, ...], ...], "words": [[words of each text], ...],
     "unread": [[characters ...], ...], "top": [largest score of each example, ...], "levels": n}
    starts, ends  the distance of a word's start and end from their expected offsets, mostly 0.
                  A word is expected to start after the blanks that follow the previous word. It is
                  expected to end after the run of letters and digits, or the one other character,
                  at its start.
    layers        the number of layers that ran on the word
    scores        a stream for each site, of the words that remained when it scored

Distances are in UTF-16 units, as browsers count. A distance d is written as 2 d, or as -2 d - 1
below 0, in as many bytes of 255 as fit and one more. A score is top * (byte / n)^3. That is fine
enough near 0 for long texts' scores, and near 1 for probabilities.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Sequence

import numpy as np

from adapler_jax.inference.explanation import Explanation

CHUNK_SIZE = 128  # examples; a browser unpacks a chunk when it draws one of them
SHOWN_UNREAD = 300  # characters of a text after those that the model processed
_WIDE = 255
# The script has the same two; what they find is only expected, so that they need not be any
# tokenizer's.
_BLANKS = re.compile(r"[ \t\r\n]*")
_RUN = re.compile(r"[A-Za-z0-9\u0080-\U0010ffff]+|[\x00-\x7f]?")


def pack_chunk(explanations: Sequence[Explanation], *, num_levels: int) -> str:
    """Return the chunk of some examples of one model, ASCII.

    Args:
      num_levels: resolution of the scores, at most 255.
    """
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
    """Return a text up to a little after its last processed word.

    Returns:
      The text; the number of characters left out after it; the distances of word starts and ends
      from their expected offsets, int [words, 2].
    """
    whole = explanation.prediction.texts[part]
    words = [word for word in explanation.prediction.words if word.part == part]
    text = whole[: max((word.end for word in words), default=0) + SHOWN_UNREAD]
    unit_C, moves, done = utf16_offsets(text), [], 0
    for word in words:
        expected_start = _match_end(_BLANKS, text, done)
        start = max(word.start, done)  # spans that overlap would shift all that follow
        end = max(word.end, start)
        expected_end = _match_end(_RUN, text, start)
        moves.append((unit_C[start] - unit_C[expected_start], unit_C[end] - unit_C[expected_end]))
        done = end
    return text, len(whole) - len(text), np.array(moves, int).reshape(-1, 2)


def _match_end(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return the end of a match at an offset; the patterns match the empty text too."""
    found = pattern.match(text, start)
    return start if found is None else found.end()


def utf16_offsets(text: str) -> np.ndarray:
    """Return the UTF-16 offsets of all characters and of the end, int [characters + 1]."""
    code_C = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.concatenate([[0], np.cumsum(1 + (code_C > 0xFFFF))]).astype(int)


def pack_scores(
    explanations: Sequence[Explanation], top: Sequence[float], num_levels: int
) -> Iterable[bytes]:
    """Return the scores, a stream for each site; a site scored the words that reached it."""
    levels = [
        score_levels(explanation.score_NW, highest, num_levels)
        for explanation, highest in zip(explanations, top)
    ]
    for layer in explanations[0].site_layers if explanations else ():
        for level_NW, explanation in zip(levels, explanations):
            yield level_NW[layer, explanation.layers_W >= layer].tobytes()


def score_levels(score_X: np.ndarray, top: float, num_levels: int) -> np.ndarray:
    """Return num_levels times the third roots of the scores, rounded, as uint8 of equal shape.

    The search is among cubes of the midpoints: processors round third roots differently.
    """
    half_K = (np.arange(num_levels) + 0.5) / num_levels
    return np.searchsorted(
        half_K * half_K * half_K, score_X / max(top, 1e-30), side="right"
    ).astype(np.uint8)


def move_bytes(move_W: np.ndarray) -> bytes:
    """Return whole numbers as bytes; a small number takes one byte."""
    value_W = np.where(move_W < 0, -2 * move_W - 1, 2 * move_W)
    num_W = value_W // _WIDE + 1
    packed = np.full(int(num_W.sum()), _WIDE, np.uint8)
    packed[np.cumsum(num_W) - 1] = value_W % _WIDE
    return packed.tobytes()
