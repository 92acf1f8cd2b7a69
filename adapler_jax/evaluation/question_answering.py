"""Scores of options and of answers in texts, from the logits of batches; see `inference.scoring`."""

from collections.abc import Iterator, Sequence

import numpy as np

from adapler_jax.data.qa.hotpot_rows import ANSWER_TYPES, HotpotRows
from adapler_jax.data.qa.multiple_choice import MultipleChoiceRows
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.wikihop import WikihopRows
from adapler_jax.data.qa.windows import Windows
from adapler_jax.inference.spans import Answers, answer_questions, best_spans, collect_spans
from adapler_jax.metrics.classification import accuracy
from adapler_jax.metrics.hotpot import SupportingFact, hotpot_scores
from adapler_jax.metrics.multiple_choice import multiple_choice_accuracy, option_scores
from adapler_jax.metrics.squad import apply_threshold, find_thresholds, squad_scores
from adapler_jax.types import Batch


class ChoiceScorer:
    """Share of the questions whose right option has the highest score, by one score an option or by two classes."""

    def __init__(self, rows: MultipleChoiceRows):
        """rows: of the split; a row's example id is its place there."""
        self._rows = rows
        self._score_R = np.full(len(rows), -np.inf)

    def add(self, logits_BC, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`; of two classes the second says that an option is right."""
        self._score_R[np.asarray(batch.example_id_B)[real_B]] = option_scores(logits_BC)[real_B]

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`."""
        label_Q = np.argmax(self._rows.labels.reshape(-1, self._rows.num_options), axis=1)
        return {
            "score": multiple_choice_accuracy(self._score_R, self._rows.question, label_Q),
            "total": len(label_Q),
        }


class SpanScorer:
    """Exact match and F1, as SQuAD has them, of the best span of every question, or of no answer."""

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
        """Args: windows, questions: of the split; a row's example id is that of its window. allows_null: whether no
        answer may be right. threshold: no answer where it scores so much more than the best span; None: what is best
        on these very questions, which `scores` then gives as `threshold`."""
        self._windows, self._questions = windows, questions
        self._limits = {"n_best_size": n_best_size, "max_answer_tokens": max_answer_tokens}
        self._allows_null, self._threshold, self._parts = allows_null, threshold, []

    def add(self, logits_BL2, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`."""
        row_B = np.asarray(batch.example_id_B)[real_B]
        count_B = self._windows.starts.lengths[row_B]
        first_B = self._windows.context_first[row_B]
        self._parts.append(
            (row_B, best_spans(np.asarray(logits_BL2)[real_B], first_B, count_B, **self._limits))
        )

    def answers(self) -> Iterator[tuple[int, Answers]]:
        """The answers to every question, by its number."""
        spans = collect_spans(self._parts, num_rows=len(self._windows))
        return answer_questions(
            spans,
            self._windows,
            lambda number: self._questions[number].context,
            n_best_size=self._limits["n_best_size"],
            allow_null=self._allows_null,
        )

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`: `score` is F1; with `exact`, `f1`, their parts with and without an answer, and, where
        there may be none, `best_span_exact` and `best_span_f1`: of the questions that have an answer, were it always
        given."""
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
            found = {"threshold": threshold} | _best_span_scores(predictions, accepted)
            predictions = apply_threshold(predictions, differences, threshold)
        scores = squad_scores(predictions, accepted)
        return {"score": scores["f1"]} | scores | found


def _best_span_scores(
    predictions: dict[str, str], accepted: dict[str, tuple[str, ...]]
) -> dict[str, float]:
    """Exact match and F1 of the best spans of the questions that have an answer; nothing where none has."""
    has_answer = {key: texts for key, texts in accepted.items() if texts}
    scores = squad_scores(predictions, has_answer) if has_answer else {}
    return {f"best_span_{name}": score for name, score in scores.items() if name in ("exact", "f1")}


class HotpotScorer:
    """HotpotQA's scores of the likeliest answers, and of the sentences that are likelier to support them than not."""

    def __init__(self, rows: HotpotRows, *, max_answer_tokens: int = 30):
        """rows: of a split that is no training split; a row's example id is its place there."""
        self._rows, self._max_answer_tokens = rows, max_answer_tokens
        self._answers: dict[
            str, str
        ] = {}  # by the number of the row: names of questions need not differ
        self._facts: dict[str, list[SupportingFact]] = {}

    def add(self, logits, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`; the dict of `heads.hotpot`."""
        span_BL2, type_B3, support_BX2 = (
            np.asarray(logits[name])[real_B] for name in ("span_BL2", "type_B3", "support_BX2")
        )
        row_B = np.asarray(batch.example_id_B)[real_B].tolist()
        is_fact_BX = support_BX2[..., 1] > support_BX2[..., 0]
        texts = self._spans(span_BL2, row_B)
        for row, text, kind, is_fact_X in zip(
            row_B, texts, np.argmax(type_B3, axis=-1).tolist(), is_fact_BX
        ):
            self._answers[str(row)] = ANSWER_TYPES[kind] if kind else text
            self._facts[str(row)] = [
                fact for fact, is_fact in zip(self._rows.facts[row], is_fact_X) if is_fact
            ]

    def _spans(self, logits_BL2: np.ndarray, row_B: list[int]) -> list[str]:
        """The text of the best span of each row; empty where the context has no tokens. The markers beside titles,
        which have no characters, begin and end none."""
        logits_BL2 = np.array(logits_BL2, np.float32)  # a copy
        first_B, starts, ends = self._rows.context_first[row_B], self._rows.starts, self._rows.ends
        for place, row in enumerate(row_B):
            logits_BL2[place, first_B[place] + np.flatnonzero(starts[row] == ends[row])] = -np.inf
        spans = best_spans(
            logits_BL2,
            first_B,
            starts.lengths[row_B],
            n_best_size=1,
            max_answer_tokens=self._max_answer_tokens,
        )
        places = zip(row_B, spans.first_MA[:, 0] - first_B, spans.last_MA[:, 0] - first_B)
        return [
            self._rows.contexts[row][starts[row][first] : ends[row][last]] if first >= 0 else ""
            for row, first, last in places
        ]

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`: `score` is the joint F1; with all of `hotpot_scores`."""
        names = [str(row) for row in range(len(self._rows))]
        answers, wanted = (
            dict(zip(names, self._rows.answers)),
            dict(zip(names, self._rows.gold_facts)),
        )
        scores = hotpot_scores(self._answers, self._facts, answers, wanted)
        return {"score": scores["joint_f1"]} | scores


class WikihopScorer:
    """Share of the questions whose right candidate has the highest score, each the mean over the question's rows."""

    def __init__(self, rows: WikihopRows):
        """rows: of the split; a row's example id is its place there."""
        self._rows = rows
        self._score_RK = np.full(rows.marker_RC.shape, np.nan)

    def add(self, logits_BK, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`."""
        self._score_RK[np.asarray(batch.example_id_B)[real_B]] = np.asarray(logits_BK)[real_B]

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`. Raises ValueError where a row was not given, or is NaN."""
        missing_R = np.isnan(self._score_RK).any(axis=-1)
        if missing_R.any():
            raise ValueError(
                f"row {int(np.argmax(missing_R))} has no scores, or NaN; expected numbers of every row"
            )
        first_Q, count_Q = np.unique(self._rows.question, return_index=True, return_counts=True)[1:]
        mean_QK = np.add.reduceat(self._score_RK, first_Q) / count_Q[:, None]
        return {"score": accuracy(np.argmax(mean_QK, axis=-1), self._rows.labels[first_Q])}
