"""Score every word of the windows by several explanations, and compare with human rationales.

The explanations are AdapLeR's predictors, attention, rollout, saliency and random scores. A word
is what is between blanks; it has the largest score of its pieces. [CLS] and [SEP] are no words:
ranks and the uniform level leave them out. The uniform level is 1 / n for n words, and a word's
fraction of all words' scores is compared with it.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from adapler_jax.data.batching.lengths import default_lengths
from adapler_jax.data.classification.rationales import AnnotatedText
from adapler_jax.evaluation.attribution import attention_scores, layer_saliency, pruner_scores
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.explanation import pool_words
from adapler_jax.inference.loading import sorted_batches
from adapler_jax.metrics import rationales
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.weights.save import Saved
from benchmarks.rationale_windows import EncodedWindow

PRUNED, KEPT = "adapler", "kept"
# One score for each word, from the scores of all layers [N, W].
WHOLE = {
    PRUNED: lambda score_NW: score_NW.mean(axis=0),
    "attention": lambda score_NW: score_NW[-1],
    "rollout": lambda score_NW: score_NW[-1],
    "saliency": lambda score_NW: score_NW[0],
    "random": lambda score_NW: score_NW[0],
}
BATCH_SIZE = 8  # one layer's attention of so many windows is held at a time


def token_scores(dense: Saved, pruned: Saved, *, dtype) -> Callable:
    """Return a function of a batch that gives the scores of every token.

    Returns:
      Batch -> {method: float32 [N, B, L]}; KEPT is 1 for tokens that the pruned model kept.
    """
    pruner = pruner_of_saved(pruned)

    @jax.jit
    def by_attention(batch):
        found = attention_scores(dense.params, dense.config, batch, dtype=dtype)
        return {
            "attention": found.cls_NBL,
            "attention received": found.received_NBL,
            "rollout": found.rollout_NBL,
        }

    @jax.jit
    def by_saliency(batch):
        return {"saliency": layer_saliency(dense.params, dense.config, batch, dtype=dtype)[0]}

    @jax.jit
    def by_pruner(batch):
        score_NBL, keep_NBL = pruner_scores(
            pruned.params, pruned.config, pruner, batch, dtype=dtype
        )
        return {PRUNED: score_NBL, KEPT: keep_NBL.astype(np.float32)}

    def run(batch):
        return by_pruner(batch) | by_attention(batch) | by_saliency(batch)

    return run


def score_windows(
    dense: Saved,
    pruned: Saved,
    encoded: Sequence[EncodedWindow],
    num_words: Sequence[int],
    *,
    dtype,
    seed: int,
) -> dict[str, list[np.ndarray]]:
    """Score the words of every window.

    Returns:
      {method: float32 [N, W] of every window}; random scores are drawn by the seed.
    """
    run, lengths = token_scores(dense, pruned, dtype=dtype), default_lengths(dense.max_length)
    rng = np.random.default_rng(seed)
    found: dict[str, list] = {}
    rows = [window.token_L for window in encoded]
    for row_B, batch in sorted_batches(rows, None, lengths=lengths, num_rows=BATCH_SIZE):
        for method, score_NBL in jax.device_get(run(batch)).items():
            scores = found.setdefault(method, [None] * len(encoded))
            for place, row in enumerate(row_B):
                word_L = encoded[row].word_L
                scores[row] = pool_words(score_NBL[:, place, : len(word_L)], word_L, num_words[row])
    shapes = [score_NW.shape for score_NW in found[PRUNED]]
    return found | {"random": [rng.random(shape, np.float32) for shape in shapes]}


def layer_rows(scores: dict[str, list[np.ndarray]], windows: Sequence[AnnotatedText]) -> list[dict]:
    """Return a row for each method and layer, with means over the windows.

    Columns are average precision, the false positive rate at the uniform level, and the fraction
    of words above that level. AdapLeR's rows also have the fraction of words that remain.
    """
    rows = []
    for method, found in scores.items():
        if method == KEPT:
            continue
        for layer in range(len(found[0])):
            rows.append(
                {"method": method, "layer": layer}
                | agreement([score[layer] for score in found], windows)
            )
            if method == PRUNED:
                rows[-1]["kept_share"] = float(
                    np.mean([kept[layer].mean() for kept in scores[KEPT]])
                )
    return rows


def agreement(scores: Sequence[np.ndarray], windows: Sequence[AnnotatedText]) -> dict[str, float]:
    """Return the columns of `layer_rows` for one score of each word."""
    chosen = [rationales.above_uniform(score_W) for score_W in scores]
    rates = [
        rationales.false_positive_rate(*pair)
        for pair in zip(chosen, (text.rationale_W for text in windows))
    ]
    precisions = [
        rationales.average_precision(score_W, text.rationale_W)
        for score_W, text in zip(scores, windows)
    ]
    return {
        "average_precision": float(np.nanmean(precisions)),
        "false_positive_rate": float(np.nanmean(rates)),
        "chosen_share": float(np.mean([chosen_W.mean() for chosen_W in chosen])),
    }


def hard_scores(
    scores: Sequence[np.ndarray], windows: Sequence[AnnotatedText], share: float
) -> dict[str, float]:
    """Return ERASER's agreement of the top words.

    Args:
      share: fraction of each window, the mean fraction of human rationales in training.
    """
    chosen = [rationales.choose_top(score_W, share) for score_W in scores]
    pairs = list(zip(chosen, (text.rationale_W for text in windows)))
    areas = [
        rationales.area_under_precision_recall(*pair)
        for pair in zip(scores, (wanted_W for _, wanted_W in pairs))
    ]
    return {
        "token_f1": float(np.mean([rationales.token_f1(*pair) for pair in pairs])),
        "iou_f1": rationales.iou_f1([rationales.matched_spans(*pair) for pair in pairs]),
        "auprc": float(np.nanmean(areas)),
    }


def faithfulness(
    classifier: Classifier, scores: Sequence[np.ndarray], windows: Sequence[AnnotatedText]
) -> dict:
    """Return ERASER's comprehensiveness and sufficiency, means over the windows."""
    prob_TC = classifier.predict_probs([text.text for text in windows])
    answer_T = prob_TC.argmax(axis=-1)

    def answers(kept):
        """Return probabilities of the same labels from the kept words of each window."""
        return classifier.predict_probs(list(map(some_words, windows, kept)))[
            np.arange(len(windows)), answer_T
        ]

    chosen_K = [
        [rationales.choose_top(score_W, share) for score_W in scores] for share in rationales.BINS
    ]
    without_TK = np.stack(
        [answers([~chosen_W for chosen_W in chosen]) for chosen in chosen_K], axis=-1
    )
    alone_TK = np.stack([answers(chosen) for chosen in chosen_K], axis=-1)
    prob_T = prob_TC.max(axis=-1)
    return {
        "comprehensiveness": float(
            np.mean(list(map(rationales.comprehensiveness, prob_T, without_TK)))
        ),
        "sufficiency": float(np.mean(list(map(rationales.sufficiency, prob_T, alone_TK)))),
    }


def some_words(text: AnnotatedText, chosen_W) -> str:
    """Return the chosen words of a text."""
    return " ".join(word for word, chosen in zip(text.words, chosen_W) if chosen)


def eraser_rows(
    scores, windows: Sequence[AnnotatedText], share: float, classifiers: dict[str, Classifier]
) -> list[dict]:
    """Return ERASER's measures, a row for each method and predictor.

    AdapLeR's scores explain its own model and, like all others, the dense model. Random scores
    explain both.

    Args:
      classifiers: by name.
    """
    rows = []
    for method, whole in WHOLE.items():
        found = list(map(whole, scores[method]))
        hard = hard_scores(found, windows, share)
        for predictor, classifier in classifiers.items():
            if predictor == "dense" or method in (PRUNED, "random"):
                measured = faithfulness(classifier, found, windows)
                rows.append(
                    {"method": method, "layer": None, "predictor": predictor} | hard | measured
                )
    return rows
