"""Explanations made by hand, and the reader of what `report.packing` writes of them."""

import base64
import gzip
import json
import re

import numpy as np

from adapler_jax.inference.explanation import Explanation
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.words import Word

NUM_LAYERS = 4
SITES = (0, 1, 2, 3)
CLASSES = ("bad", "good")


def explain(*texts, label="good", num_words=None, sites=SITES, seed=0) -> Explanation:
    """Return an explanation of a text or pair, with a token for each word between blanks.

    The first word is kept; the others are dropped at random sites.
    """
    words = []
    for part, text in enumerate(texts):
        start = 0
        for piece in text.split():
            start = text.index(piece, start)
            words.append(Word(piece, part, start, start + len(piece)))
            start += len(piece)
    is_cut, words = num_words is not None and len(words) > num_words, words[:num_words]
    rng = np.random.default_rng(seed)
    layers_W = rng.integers(0, NUM_LAYERS + 1, len(words))
    layers_W[:1] = NUM_LAYERS
    layers_L = np.concatenate([[NUM_LAYERS], layers_W, [NUM_LAYERS]])
    keep_NL = np.arange(NUM_LAYERS)[:, None] < layers_L
    scored_NL = (np.arange(NUM_LAYERS)[:, None] <= layers_L) & np.isin(
        np.arange(NUM_LAYERS), sites
    )[:, None]
    score_NL = np.where(scored_NL, rng.uniform(0.001, 1.0, scored_NL.shape), 0.0).astype(np.float32)
    prediction = Prediction(
        texts=texts,
        label=label,
        probability=0.75,
        probabilities={},
        words=tuple(words),
        keep_NW=keep_NL[:, 1:-1],
        num_tokens=tuple(keep_NL.sum(axis=-1).tolist()),
        is_cut=is_cut,
    )
    word_L = np.concatenate([[-1], np.arange(len(words)), [-1]]).astype(np.int32)
    return Explanation(prediction, ("t",) * len(word_L), word_L, keep_NL, score_NL, sites)


def unpack(chunk: str, sites=SITES) -> list[list[dict]]:
    """Unpack a chunk: {text, unread, words, layers, scores} of each text."""
    line, _, rest = gzip.decompress(base64.b64decode(chunk)).partition(b"\n")
    header, stream = json.loads(line), iter(rest)
    total = sum(count for counts in header["words"] for count in counts)

    def wide():
        value = byte = next(stream)
        while byte == 255:
            byte = next(stream)
            value += byte
        return value

    def move():
        value = wide()
        return -(value + 1) // 2 if value % 2 else value // 2

    starts, ends = [[move() for _ in range(total)] for _ in range(2)]
    layers = [next(stream) for _ in range(total)]
    tops = [top for top, counts in zip(header["top"], header["words"]) for _ in range(sum(counts))]
    scores = [
        [
            top * (next(stream) / header["levels"]) ** 3 if ran >= site else 0.0
            for ran, top in zip(layers, tops)
        ]
        for site in sites
    ]
    assert next(stream, None) is None
    examples, first = [], 0
    for row, texts in enumerate(header["texts"]):
        examples.append([])
        for part, text in enumerate(texts):
            units = "".join(chr(unit) for unit in np.frombuffer(text.encode("utf-16-le"), "<u2"))
            at, words = 0, []
            last = first + header["words"][row][part]
            for from_expected, behind_run in zip(starts[first:last], ends[first:last]):
                start = re.compile(r"[ \t\r\n]*").match(units, at).end() + from_expected
                at = (
                    re.compile(r"[A-Za-z0-9\u0080-\uffff]+|[\x00-\x7f]?").match(units, start).end()
                    + behind_run
                )
                words.append(
                    units[start:at].encode("utf-16-le", "surrogatepass").decode("utf-16-le")
                )
            examples[-1].append(
                {
                    "text": text,
                    "unread": header["unread"][row][part],
                    "words": words,
                    "layers": layers[first:last],
                    "scores": [site[first:last] for site in scores],
                }
            )
            first = last
    return examples
