"""Scores of options and of answers in texts, from the logits of batches; see `inference.scoring`."""

from collections.abc import Iterator, Sequence

import numpy as np

from adapler_jax.data.choices import ChoiceRows
from adapler_jax.data.questions import Question
from adapler_jax.data.windows import Windows
from adapler_jax.inference.spans import Answers, answer_questions, best_spans, collect_spans
from adapler_jax.metrics.choice import choice_accuracy
from adapler_jax.metrics.squad import apply_threshold, find_thresholds, squad_scores
from adapler_jax.types import Batch


class ChoiceScorer:
    """Share of the questions whose right option has the highest score, by one score an option or by two classes."""

    def __init__(self, rows: ChoiceRows):
        """rows: of the split; a row's example id is its place there."""
        self._rows = rows
        self._score_R = np.full(len(rows), -np.inf)

    def add(self, logits_BC, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`; the last class says that an option is right."""
        logits_BC = np.asarray(logits_BC, np.float64)
        score_B = logits_BC[:, -1] - (logits_BC[:, 0] if logits_BC.shape[1] > 1 else 0.0)
        self._score_R[np.asarray(batch.example_id_B)[real_B]] = score_B[real_B]

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`."""
        label_Q = np.argmax(self._rows.labels.reshape(-1, self._rows.num_options), axis=1)
        return {"score": choice_accuracy(self._score_R, self._rows.question, label_Q)}


class SpanScorer:
    """Exact match and F1, as SQuAD has them, of the best span of every question, or of no answer."""

    def __init__(
        self, windows: Windows, questions: Sequence[Question], *, num_best: int = 20, max_answer_tokens: int = 30,
        allows_null: bool, threshold: float | None = None,
    ):  # fmt: skip
        """Args: windows, questions: of the split; a row's example id is that of its window. allows_null: whether no
        answer may be right. threshold: no answer where it scores so much more than the best span; None: what is best
        on these very questions, which `scores` then gives as `threshold`."""
        self._windows, self._questions = windows, questions
        self._limits = {"num_best": num_best, "max_answer_tokens": max_answer_tokens}
        self._allows_null, self._threshold, self._parts = allows_null, threshold, []

    def add(self, logits_BL2, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`."""
        row_B = np.asarray(batch.example_id_B)[real_B]
        count_B = self._windows.starts.lengths[row_B]
        first_B = self._windows.context_first[row_B]
        self._parts.append((row_B, best_spans(np.asarray(logits_BL2)[real_B], first_B, count_B, **self._limits)))

    def answers(self) -> Iterator[tuple[int, Answers]]:
        """The answers to every question, by its number."""
        spans = collect_spans(self._parts, num_rows=len(self._windows))
        return answer_questions(
            spans, self._windows, lambda number: self._questions[number].context,
            num_best=self._limits["num_best"], allow_null=self._allows_null,
        )  # fmt: skip

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`: `score` is F1; with `exact`, `f1`, their parts with and without an answer."""
        predictions, differences, accepted = {}, {}, {}
        for number, answers in self.answers():
            question = self._questions[number]
            accepted[question.id] = question.answers
            predictions[question.id] = answers.spans[0].text if answers.spans else ""
            differences[question.id] = answers.null_difference
        found = {}
        if self._allows_null:
            threshold = self._threshold
            if threshold is None:
                threshold = find_thresholds(predictions, differences, accepted)["f1"].value
            predictions, found = apply_threshold(predictions, differences, threshold), {"threshold": threshold}
        scores = squad_scores(predictions, accepted)
        return {"score": scores["f1"]} | scores | found
