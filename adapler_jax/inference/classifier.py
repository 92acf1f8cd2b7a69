"""A saved model as its users see it: texts in, labels and kept words out.

Shape letters:

    W words of a text
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.export.programs import use_programs
from adapler_jax.export.signing import may_run_programs
from adapler_jax.inference.calibration import (
    FULL,
    Budget,
    Calibration,
    Request,
    certified_request,
    check_has_speeds,
    full_loader,
    read_calibration,
    resolve_budget,
)
from adapler_jax.inference.drift import DriftMonitor
from adapler_jax.inference.engine import AUTO, EngineOptions
from adapler_jax.inference.explanation import Explanation, make_explanation
from adapler_jax.inference.loading import (
    check_request,
    open_model,
    padded_batch_size,
    prepare_model,
    threshold_of,
    truncation_side_of,
    warm_up,
    with_origin,
)
from adapler_jax.inference.long_texts import (
    check_long_texts,
    check_no_windows,
    encode_windows,
    merge_probs,
)
from adapler_jax.inference.model_kind import check_classifies
from adapler_jax.inference.prediction import Prediction, make_prediction
from adapler_jax.inference.processes import Portable
from adapler_jax.inference.rows import RowRunner, SecondRun
from adapler_jax.inference.speedups import repeat_budgets
from adapler_jax.inference.texts import split_pairs
from adapler_jax.inference.words import Encoded, Tokens, encode_tokens, encode_words, read_texts
from adapler_jax.metrics.classification import check_threshold, decide, margins
from adapler_jax.types import Params

TokensT = TypeVar("TokensT", Encoded, Tokens)
Texts = Iterable[str | tuple[str, str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier(Portable):
    """A model that classifies texts. Make one with `Classifier.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    class_names: tuple[str, ...]
    num_layers: int
    max_length: int  # token slots
    lengths: tuple[int, ...]  # padded lengths of batches
    site_layers: tuple[int, ...]  # layers, from 0, at which the model scores and drops tokens
    # Of two classes, the label is the second if its probability is at least this.
    threshold: float | None = None
    truncation_side: str = "right"  # that loses the tokens of long texts: right, left or middle
    dtype: str = "float32"  # of the operands of the encoder's products
    calibration: Calibration | None = None  # for predictions at another budget
    # Warns where texts with a budget are unlike the calibration's.
    drift: DriftMonitor | None = dataclasses.field(default=None, repr=False)
    # Loads, once, the full model that runs the uncertain texts of certified calls again.
    load_full: Callable[[], "Classifier"] | None = dataclasses.field(default=None, repr=False)

    @classmethod
    @with_origin
    def load(
        cls,
        directory,
        *,
        compilation_cache: str = "",
        programs: bool | None = None,
        threshold: float | None = None,
        **options: Unpack[EngineOptions],
    ) -> "Classifier":
        """Load a model.

        Args:
          directory: or hub name of a saved model, or of one of transformers, which runs all tokens.
          compilation_cache: folder of compiled programs, as in `use_compilation_cache`.
          programs: run what this user exported into the directory by `export_model` with the same
            arguments: equal results, a faster start. No other file of it is ever run. None for True
            where the environment variable ADAPLER_PROGRAMS is 1.
          threshold: of two classes, the label is the second if its probability is at least this.
            None for the saved threshold, or without one for the likeliest class.
          **options: `buckets`, `dtype`, `driver`, `autotune_table`, `expected_speedup`, as in
            `make_engine`. The dtype "auto" is bfloat16 where it is faster on this device and
            `adapler evaluate` found equal predictions.

        Raises:
          ValueError: the model is damaged, is no classifier, or is longer than all buckets.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        check_classifies(saved)
        threshold = threshold_of(saved, threshold)
        loaded = prepare_model(saved, **options)
        run: Callable = loaded.run
        params, calibration = loaded.params, None
        if may_run_programs(programs):
            run, params = use_programs(
                loaded.run,
                saved,
                params,
                buckets=options.get("buckets"),
                dtype=loaded.dtype,
                driver=options.get("driver", AUTO),
            )
        if run is loaded.run and loaded.pruner.takes_budgets:
            calibration = read_calibration(saved.directory, len(loaded.pruner.sites))
            params = params if calibration is None else calibration.apply(params)
        return cls(
            run=run,
            params=params,
            tokenizer=loaded.tokenizer,
            class_names=saved.class_names,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            dtype=loaded.dtype,
            site_layers=tuple(site.layer for site in loaded.pruner.sites),
            threshold=threshold,
            truncation_side=truncation_side_of(saved, loaded.tokenizer_side),
            calibration=calibration,
            drift=None if calibration is None else calibration.monitor(),
            load_full=full_loader(cls.load, saved.directory, calibration, loaded.dtype, options),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program that `predict` may need.

        Afterwards no call compiles, for any number and length of texts.

        Args:
          batch_size: as in `predict`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        is_calibrated, seconds = self.calibration is not None, 0.0
        if self.load_full is not None:
            seconds = self.load_full().warm_up(batch_size)
        return seconds + warm_up(
            self.run, self.params, self.lengths, batch_size, is_calibrated=is_calibrated
        )

    def predict(
        self,
        texts: Texts,
        *,
        batch_size: int = 32,
        threshold: float | None = None,
        long_texts: str = "truncate",
        stride: int | None = None,
        budget: Budget = None,
        speedup: float | None = None,
        certified: bool = False,
    ) -> list[Prediction]:
        """Classify texts, or pairs of texts.

        Texts of similar length share a batch. Fewer texts than batch_size run in a batch of the
        next power of two. The first call with a batch shape compiles, unless `warm_up` did.

        Args:
          texts: a list, tuple, array, column or generator of strings, or of pairs: tuples, lists,
            or dicts with text and text_pair.
          batch_size: texts in a batch.
          threshold: as in `load`; None for the classifier's own.
          long_texts: "truncate" cuts texts that are longer than the model. "mean" and "max" split
            them into windows. The probabilities are the mean over the windows, or the
            probabilities of the most certain window.
          stride: tokens from the start of a window to the start of the next; None for half of the
            room for text.
          budget: share of the tokens that a calibrated model keeps, a number in (0, 1] or one for
            each text. None for the trained thresholds. Another budget compiles nothing.
          speedup: FLOPs speedup on texts like the calibration's, in place of a budget.
          certified: take the certified budget; predictions that ran again are `is_escalated`.

        Returns:
          A prediction for each text, in their order.

        Raises:
          TypeError: texts is no list, or mixes strings and pairs.
          ValueError: an argument has another value, or the model is not calibrated or certified.
        """
        check_request(batch_size)
        check_threshold(threshold, len(self.class_names))
        decider = self if threshold is None else dataclasses.replace(self, threshold=threshold)
        request = decider.resolve(budget, speedup, certified=certified)
        if check_long_texts(long_texts, stride):
            check_no_windows(certified, long_texts)
            return decider._predict_windows(
                texts, batch_size, long_texts=long_texts, stride=stride, budget=request.budget
            )
        encoded = decider.encode(texts)
        num_rows = padded_batch_size(len(encoded), batch_size)
        return decider.predict_encoded(encoded, num_rows=num_rows, request=request)

    def resolve(
        self, budget: Budget = None, speedup: float | None = None, *, certified: bool = False
    ) -> Request:
        """Return the request for arguments of `predict`.

        Raises:
          ValueError: they contradict each other, or the model is not calibrated or certified.
        """
        check_has_speeds(bool(self.site_layers), budget, speedup, certified=certified)
        if not certified:
            return Request(resolve_budget(self.calibration, budget, speedup))
        if budget is not None or speedup is not None:
            raise ValueError("certified is given with a budget or a speedup; give one")
        return certified_request(
            self.calibration, self.threshold, self.dtype, has_full=self.load_full is not None
        )

    def predict_probs(
        self,
        texts: Texts,
        *,
        batch_size: int = 32,
        budget: Budget = None,
        speedup: float | None = None,
        certified: bool = False,
    ) -> np.ndarray:
        """Return the probabilities of `predict`, float32 [texts, classes], with less overhead.

        Arguments are as in `predict`.
        """
        check_request(batch_size)
        request = self.resolve(budget, speedup, certified=certified)
        tokens = self.encode_tokens(texts)
        num_rows = padded_batch_size(len(tokens), batch_size)
        return self.predict_probs_encoded(tokens, num_rows=num_rows, request=request)

    def explain(self, text: str | tuple[str, str]) -> Explanation:
        """Classify one text or pair, with the score of each token; see `explain_all`."""
        return self.explain_all([text])[0]

    def explain_all(self, texts: Texts, *, batch_size: int = 32) -> list[Explanation]:
        """Classify texts as `predict` does, with the score of each token at each layer.

        Args:
          texts: as in `predict`.
          batch_size: texts in a batch.

        Returns:
          An explanation for each text, in their order.

        Raises:
          TypeError: as in `predict`.
          ValueError: as in `predict`, or the model drops no tokens.
        """
        if not self.site_layers:
            raise ValueError(
                "the model drops no tokens, so there is nothing to explain; load a pruned model"
            )
        check_request(batch_size)
        encoded = self.encode(texts)
        num_rows = padded_batch_size(len(encoded), batch_size)
        return [
            make_explanation(
                self._prediction([encoded[result.row]], result.prob_C, [result.keep_NL]),
                encoded[result.row],
                result,
                tokenizer=self.tokenizer,
                site_layers=self.site_layers,
            )
            for result in self._runner.results(encoded, num_rows)
        ]

    @property
    def _runner(self) -> RowRunner:
        """Return what runs rows of tokens in batches."""
        return RowRunner(self.run, self.params, self.lengths, self.num_layers, self.calibration)

    def encode(self, texts: Texts) -> list[Encoded]:
        """Tokenize texts or pairs for `predict_encoded`; safe in a thread next to the model.

        Raises:
          TypeError: as in `predict`.
        """
        return read_texts(self, encode_words, texts)

    def encode_tokens(self, texts: Texts) -> list[Tokens]:
        """Tokenize texts or pairs without their words, for `predict_probs_encoded`.

        Raises:
          TypeError: as in `predict`.
        """
        return read_texts(self, encode_tokens, texts)

    def predict_encoded(
        self, encoded: Sequence[Encoded], *, num_rows: int, request: Request | None = None
    ) -> list[Prediction]:
        """Classify the texts of `encode`, in batches of num_rows; `resolve` makes a request."""
        request = request or Request()
        results = self._runner.results(encoded, num_rows, request.budget)
        if self.drift is not None and request.budget is not None and results:
            share_M = np.array([np.mean(result.keep_NL) for result in results])
            prob_MC = np.array([result.prob_C for result in results])
            self.drift.add(request.budget, share_M, margins(prob_MC))
        if request.margin:
            self._second_run(request).replace_results(results, encoded, num_rows)
        return [
            self._prediction(
                [encoded[result.row]],
                result.prob_C,
                [result.keep_NL],
                earlier_N=result.earlier_N,
            )
            for result in results
        ]

    def _second_run(self, request: Request) -> SecondRun:
        """Return what runs the uncertain texts of a request again."""
        if request.escalates_to == FULL and self.load_full is not None:
            return SecondRun(self.load_full()._runner, None, request.margin, self.threshold)
        return SecondRun(self._runner, 1.0, request.margin, self.threshold)

    def predict_probs_encoded(
        self, tokens: Sequence[Tokens], *, num_rows: int, request: Request | None = None
    ) -> np.ndarray:
        """Return the probabilities for the texts of `encode_tokens`, in batches of num_rows."""
        return self.probs_and_escalated(tokens, num_rows=num_rows, request=request)[0]

    def probs_and_escalated(
        self, tokens: Sequence[Tokens], *, num_rows: int, request: Request | None = None
    ) -> tuple[np.ndarray, list[int]]:
        """Return the probabilities, and the rows that ran again."""
        request, num_classes = request or Request(), len(self.class_names)
        probs, share_M = self._runner.probs(
            tokens, num_rows, request.budget, num_classes=num_classes
        )
        if self.drift is not None and request.budget is not None:
            self.drift.add(request.budget, share_M, margins(probs))
        if not request.margin:
            return probs, []
        return probs, self._second_run(request).replace_probs(probs, tokens, num_rows)

    def _predict_windows(
        self,
        texts: Texts,
        batch_size: int,
        *,
        long_texts: str,
        stride: int | None,
        budget: Budget = None,
    ) -> list[Prediction]:
        """Classify texts by their windows; a text that fits has one."""
        firsts, seconds = split_pairs(texts)
        examples = encode_windows(
            self.tokenizer, firsts, seconds, max_length=self.max_length, stride=stride
        )
        windows = [window for example in examples for window in example]
        budget = repeat_budgets(budget, [len(example) for example in examples])
        num_rows = padded_batch_size(len(windows), batch_size) if windows else 1
        results = iter(self._runner.results(windows, num_rows, budget))
        predictions = []
        for example in examples:
            found = [next(results) for _ in example]
            prob_C = merge_probs(np.stack([result.prob_C for result in found]), long_texts)
            keeps = [result.keep_NL for result in found]
            predictions.append(self._prediction(example, prob_C, keeps))
        return predictions

    def _prediction(
        self, windows: Sequence[Encoded], prob_C: np.ndarray, runs: Sequence[np.ndarray], **fields
    ) -> Prediction:
        """Return the prediction for one text; arguments as of `make_prediction`."""
        number = int(decide(prob_C, self.threshold))
        return make_prediction(windows, prob_C, runs, self.class_names, number=number, **fields)
