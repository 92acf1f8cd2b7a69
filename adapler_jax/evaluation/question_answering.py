"""Score options and answers in texts, from the logits of batches; see `evaluation.scoring`.

Shape letters:

    Q questions             J candidates of a question      M rows of a split
    A best spans of a row   X sentences of a row
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.data.qa.hotpot_rows import ANSWER_TYPES, HotpotRows
from adapler_jax.data.qa.multiple_choice import MultipleChoiceRows
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.wikihop import WikihopRows
from adapler_jax.data.qa.windows import Windows
from adapler_jax.inference.spans import Answers, Spans, answer_questions, best_spans, collect_spans
from adapler_jax.metrics.hotpot import SupportingFact, hotpot_scores, joint_f1_scores
from adapler_jax.metrics.multiple_choice import (
    best_options,
    multiple_choice_accuracy,
    option_scores,
)
from adapler_jax.metrics.squad import (
    apply_threshold,
    find_thresholds,
    score_questions,
    squad_scores,
)
from adapler_jax.types import Batch


class ChoiceScorer:
    """Score the fraction of questions whose right option has the highest score."""

    def __init__(self, rows: MultipleChoiceRows):
        """Set the rows of the split; example ids are row numbers."""
        self._rows = rows
        self._score_M = np.full(len(rows), -np.inf)

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, 1], or [B, 2] whose second class means a right option."""
        row_B = np.asarray(batch.example_id_B)[is_real_B]
        self._score_M[row_B] = option_scores(logits)[is_real_B]

    def scores(self) -> dict[str, float]:
        """Return `score`, the accuracy, and `total`, the number of questions."""
        label_Q = self._label_Q()
        score = multiple_choice_accuracy(self._score_M, self._rows.question, label_Q)
        return {"score": score, "total": len(label_Q)}

    def example_scores(self) -> Mapping[int, float]:
        """Return 1 for a question with the right option and 0 for others, by its number."""
        is_right_Q = best_options(self._score_M, self._rows.question) == self._label_Q()
        return dict(enumerate(is_right_Q.astype(float).tolist()))

    def _label_Q(self) -> np.ndarray:
        """Return the right option of each question, int [Q]."""
        return np.argmax(self._rows.labels.reshape(-1, self._rows.num_options), axis=1)


class _SpanAnswers(NamedTuple):
    """The predicted and the accepted texts of a split, by question id."""

    predictions: dict[str, str]
    accepted: dict[str, tuple[str, ...]]
    more: dict[str, float]  # threshold and scores of the best spans


class SpanScorer:
    """Score the best span of every question, or no answer, by SQuAD's exact match and F1."""

    def __init__(
        self,
        windows: Windows,
        questions: Sequence[Question],
        *,
        n_best_size: int = 20,
        max_answer_tokens: int = 30,
        allows_null: bool,
        threshold: float | None = None,
    ):
        """Set the questions of a split.

        Args:
          windows: of the split; example ids are window numbers.
          questions: of the split.
          n_best_size: spans of a window that are compared.
          max_answer_tokens: of the longest answer.
          allows_null: no answer can be right.
          threshold: no answer where it scores so much more than the best span. None for the best
            threshold on these questions, which `scores` then returns.
        """
        self._windows, self._questions = windows, questions
        self._n_best_size, self._max_answer_tokens = n_best_size, max_answer_tokens
        self._allows_null, self._threshold = allows_null, threshold
        self._parts: list[tuple[np.ndarray, Spans]] = []

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, L, 2]."""
        row_B = np.asarray(batch.example_id_B)[is_real_B]
        spans = best_spans(
            np.asarray(logits)[is_real_B],
            self._windows.context_first[row_B],
            self._windows.starts.lengths[row_B],
            n_best_size=self._n_best_size,
            max_answer_tokens=self._max_answer_tokens,
        )
        self._parts.append((row_B, spans))

    def answers(self) -> Iterator[tuple[int, Answers]]:
        """Yield the answers to every question, by its number."""
        return answer_questions(
            collect_spans(self._parts, num_rows=len(self._windows)),
            self._windows,
            lambda number: self._questions[number].context,
            n_best_size=self._n_best_size,
            allow_null=self._allows_null,
        )

    def scores(self) -> dict[str, float]:
        """Return exact match and F1.

        Returns:
          `score` is F1. `exact` and `f1` are also given for questions with and without an answer.
          If questions may have no answer, `threshold` is added. So are `best_span_exact` and
          `best_span_f1`, of the questions that have an answer, with the best span always given.
        """
        found = self._found
        scores = squad_scores(found.predictions, found.accepted)
        return {"score": scores["f1"]} | scores | found.more

    def example_scores(self) -> Mapping[int, float]:
        """Return the F1 of each question, by its number."""
        score_Q2 = score_questions(self._found.predictions, self._found.accepted)
        numbers = {question.id: number for number, question in enumerate(self._questions)}
        return {
            numbers[key]: score
            for key, score in zip(self._found.accepted, score_Q2[:, 1].tolist(), strict=True)
        }

    @functools.cached_property
    def _found(self) -> _SpanAnswers:
        """The answers to all questions. Batches that are added later do not count."""
        predictions, differences, accepted = {}, {}, {}
        for number, answers in self.answers():
            question = self._questions[number]
            accepted[question.id] = question.answers
            predictions[question.id] = answers.spans[0].text if answers.spans else ""
            differences[question.id] = answers.null_difference
        more = {}
        if self._allows_null:
            threshold = self._threshold
            if threshold is None:
                threshold = find_thresholds(predictions, differences, accepted)["f1"].value
            more = {"threshold": threshold} | _best_span_scores(predictions, accepted)
            predictions = apply_threshold(predictions, differences, threshold)
        return _SpanAnswers(predictions, accepted, more)


def _best_span_scores(
    predictions: dict[str, str], accepted: dict[str, tuple[str, ...]]
) -> dict[str, float]:
    """Return exact match and F1 of the best spans of questions that have an answer."""
    has_answer = {key: texts for key, texts in accepted.items() if texts}
    scores = squad_scores(predictions, has_answer) if has_answer else {}
    return {f"best_span_{name}": score for name, score in scores.items() if name in ("exact", "f1")}


class HotpotScorer:
    """Score the likeliest answers and supporting sentences by HotpotQA's metrics."""

    def __init__(self, rows: HotpotRows, *, max_answer_tokens: int = 30):
        """Set the rows.

        Args:
          rows: of a split that is no training split, so with characters; example ids are row
            numbers.
          max_answer_tokens: of the longest answer.
        """
        assert rows.starts is not None and rows.ends is not None, "no training split"
        assert rows.contexts is not None and rows.facts is not None, "no training split"
        self._rows, self._max_answer_tokens = rows, max_answer_tokens
        self._starts, self._ends = rows.starts, rows.ends
        self._contexts, self._facts_of_row = rows.contexts, rows.facts
        # By the number of the row, because two questions can have the same name.
        self._answers: dict[str, str] = {}
        self._facts: dict[str, list[SupportingFact]] = {}

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: the dict of `heads.hotpot`."""
        span_BL2, type_B3, support_BX2 = (
            np.asarray(logits[name])[is_real_B] for name in ("span_BL2", "type_B3", "support_BX2")
        )
        rows = np.asarray(batch.example_id_B)[is_real_B].tolist()
        texts = self._best_texts(span_BL2, rows)
        types = np.argmax(type_B3, axis=-1).tolist()
        is_fact_BX = support_BX2[..., 1] > support_BX2[..., 0]
        for row, text, kind, is_fact_X in zip(rows, texts, types, is_fact_BX):
            facts = zip(self._facts_of_row[row], is_fact_X)
            self._answers[str(row)] = ANSWER_TYPES[kind] if kind else text
            self._facts[str(row)] = [fact for fact, is_fact in facts if is_fact]

    def _best_texts(self, logits_BL2: np.ndarray, rows: list[int]) -> list[str]:
        """Return the text of the best span of each row; empty if the context has no tokens.

        Markers next to titles have no characters, and no answer begins or ends with one.
        """
        logits_BL2 = np.array(logits_BL2, np.float32)  # a copy
        first_B = self._rows.context_first[rows]
        for index, row in enumerate(rows):
            markers = np.flatnonzero(self._starts[row] == self._ends[row])
            logits_BL2[index, first_B[index] + markers] = -np.inf
        spans = best_spans(
            logits_BL2,
            first_B,
            self._starts.lengths[rows],
            n_best_size=1,
            max_answer_tokens=self._max_answer_tokens,
        )
        first_tokens = spans.first_MA[:, 0] - first_B
        last_tokens = spans.last_MA[:, 0] - first_B
        texts = []
        for row, first, last in zip(rows, first_tokens.tolist(), last_tokens.tolist()):
            is_span = first >= 0
            start, end = (self._starts[row][first], self._ends[row][last]) if is_span else (0, 0)
            texts.append(self._contexts[row][start:end])
        return texts

    def scores(self) -> dict[str, float]:
        """Return `score`, the joint F1, and all of `hotpot_scores`."""
        scores = hotpot_scores(self._answers, self._facts, *self._gold())
        return {"score": scores["joint_f1"]} | scores

    def example_scores(self) -> Mapping[int, float]:
        """Return the joint F1 of each question, by the number of its row."""
        found = joint_f1_scores(self._answers, self._facts, *self._gold())
        return dict(enumerate(found.tolist()))

    def _gold(self) -> tuple[dict, dict]:
        """Return the right answers and the supporting sentences, by the number of the row."""
        names = [str(row) for row in range(len(self._rows))]
        return dict(zip(names, self._rows.answers)), dict(zip(names, self._rows.gold_facts))


class WikihopScorer:
    """Score the fraction of questions whose right candidate has the highest mean score of rows."""

    def __init__(self, rows: WikihopRows):
        """Set the rows of the split; example ids are row numbers."""
        self._rows = rows
        self._score_MJ = np.full(rows.marker_RC.shape, np.nan)

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, J]."""
        row_B = np.asarray(batch.example_id_B)[is_real_B]
        self._score_MJ[row_B] = np.asarray(logits)[is_real_B]

    def scores(self) -> dict[str, float]:
        """Return `score`, the accuracy.

        Raises:
          ValueError: a row was not added, or has NaN.
        """
        return {"score": float(np.mean(self._is_right_Q()))}

    def example_scores(self) -> Mapping[int, float]:
        """Return 1 for a question with the right candidate and 0 for others, by its number."""
        return dict(enumerate(self._is_right_Q().astype(float).tolist()))

    def _is_right_Q(self) -> np.ndarray:
        """Return whether the right candidate has the highest mean score, bool [Q]."""
        is_missing_M = np.isnan(self._score_MJ).any(axis=-1)
        if is_missing_M.any():
            raise ValueError(
                f"row {int(np.argmax(is_missing_M))} has no scores, or NaN; expected numbers of "
                "every row"
            )
        first_Q, count_Q = np.unique(self._rows.question, return_index=True, return_counts=True)[1:]
        mean_QJ = np.add.reduceat(self._score_MJ, first_Q) / count_Q[:, None]
        return np.argmax(mean_QJ, axis=-1) == self._rows.labels[first_Q]
