r"""Check compressed models: speeds on unseen texts, and how often a certificate is exceeded.

    python -m benchmarks.promise --task=rotten_tomatoes --model=DIR --set=reinit_head=True \
        --runs=runs/promise --json=benchmarks/results/promise-rotten_tomatoes.json

For each seed a model is fine-tuned, then compressed with the training texts without their labels.
All rows are measured on test texts. They have the field `what`:

    compress      the compressed model at the asked speedup: agreement with the fine-tuned model
    budget        the same model at speedups from 1x to 5x
    certificate   random halves of the test texts: one orders candidates, one tests them; how often
                  the rate over all test texts exceeds the certified one; uncertain texts run again
                  on the full model, on the same model with all tokens, or not (`escalates_to`)
"""

import pathlib
import statistics
from collections.abc import Iterable

import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.evaluation.budgets import Measured
from adapler_jax.evaluation.calibrate import measure_part
from adapler_jax.evaluation.certificate import NONE, Certificate, certify
from adapler_jax.evaluation.escalation import Candidate, MeasuredTexts, certify_escalation
from adapler_jax.evaluation.task_texts import make_task_texts
from adapler_jax.inference.calibration import ESCALATIONS, Calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.records import print_table
from adapler_jax.io.terminal import print_note
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_steps import CompressOptions
from adapler_jax.training.run import run_all
from adapler_jax.training.text_tasks import load_data
from adapler_jax.weights.save import load_model
from benchmarks.methods import config_of, parse_changes
from benchmarks.records import Record
from configs import finetune

SPEEDUPS = tuple(np.linspace(1.0, 5.0, 12).round(2).tolist())
RATES = (0.01, 0.02, 0.05)  # certified
CONFIDENCE = 0.95
NUM_SPLITS = 200


def measure_test(
    full, model, dataset, *, calibration: Calibration, budgets: Iterable[float], dtype: str
) -> MeasuredTexts:
    """Return the test texts at every calibrated budget, and at others."""
    examples = dataset.split(dataset.eval_splits[0])
    labels = dict(zip(examples.inputs, map(int, examples.labels)))
    part = make_task_texts(Classifier.load(model), examples.inputs, labels)
    return measure_part(
        load_model(model), load_model(full), calibration, part, dtype=dtype, budgets=budgets
    )


def budgets_of_speedups(calibration: Calibration, asked: float) -> dict[float, float]:
    """Return {speedup: budget} of the asked speedup and of SPEEDUPS, if the model has them."""
    highest = calibration.rows[0]["flops_speedup"]
    wanted = sorted({*SPEEDUPS, asked})
    return {speedup: calibration.budget_for(speedup) for speedup in wanted if speedup <= highest}


def speed_row(texts: MeasuredTexts, budget: float) -> dict:
    """Return speed, agreement and scores of a budget."""
    found = texts.measured[budget]
    return {
        "budget": budget,
        "flops_speedup": found.flops_speedup,
        "kept_share": found.kept_share,
        "agreement": float(np.mean(found.predicted_E == texts.full_E)),
        "test_score": float(np.mean(found.predicted_E == texts.label_E)),
        "dense_score": float(np.mean(texts.full_E == texts.label_E)),
    }


def part_of(texts: MeasuredTexts, chosen_X: np.ndarray, budgets: Iterable[float]) -> MeasuredTexts:
    """Return some of the texts at these budgets, without labels."""

    def part(found: Measured) -> Measured:
        """Return the measurement of the chosen texts."""
        arrays = {
            name: value[chosen_X]
            for name, value in found._asdict().items()
            if isinstance(value, np.ndarray)
        }
        return found._replace(**arrays)

    cost_E = texts.full_cost_E
    return MeasuredTexts(
        {budget: part(texts.measured[budget]) for budget in budgets},
        texts.full_E[chosen_X],
        full_cost_E=None if cost_E is None else cost_E[chosen_X],
    )


def certificate_row(
    texts: MeasuredTexts, budgets: tuple[float, ...], rate: float, *, escalates_to: str
) -> dict:
    """Certify on random halves of the texts, and look at all texts.

    One half orders the candidates where uncertain texts may run again. The other half tests them.
    The rate over all texts is taken as the true one.

    Args:
      texts: the test texts.
      budgets: that are candidates.
      rate: to certify.
      escalates_to: what uncertain texts run again on, as of a `Promise`.
    """
    rng, num_texts = np.random.default_rng(0), len(texts.full_E)
    population = texts._replace(label_E=None, escalates_to=escalates_to)
    exceeded, speedups, tested = 0, [], 0
    for _ in range(NUM_SPLITS):
        order = rng.permutation(num_texts)
        halves = np.array_split(order, 2)
        parts = [part_of(texts, rows, budgets) for rows in halves]
        tested = len(halves[1])
        found = _certificate(parts, rate, escalates_to=escalates_to)
        if found is None:
            continue
        outcome = population.outcome(Candidate(found.budget, found.margin))
        exceeded += float(np.mean(outcome.failed_E)) > rate
        speedups.append(outcome.flops_speedup)
    return {
        "what": "certificate",
        "confidence": CONFIDENCE,
        "max_disagreement": rate,
        "escalates_to": escalates_to,
        "n": tested,
        "splits": NUM_SPLITS,
        "certified_share": len(speedups) / NUM_SPLITS,
        "exceeded_share": exceeded / NUM_SPLITS,
        "flops_speedup": statistics.mean(speedups) if speedups else None,
    }


def _certificate(
    parts: list[MeasuredTexts], rate: float, *, escalates_to: str
) -> Certificate | None:
    """Return the certificate by two parts; None if nothing can be certified."""
    if escalates_to == NONE:
        return certify(parts[1].plain_failures(), max_rate=rate, confidence=CONFIDENCE)
    first, second = (part._replace(escalates_to=escalates_to) for part in parts)
    return certify_escalation(first, second, max_rate=rate, confidence=CONFIDENCE)


def run_seed(options, changes: dict, seed: int, *, log) -> list[dict]:
    """Fine-tune, compress and measure one seed; return its rows."""
    config = config_of(finetune, options.task, seed, changes)
    runs = pathlib.Path(options.runs)
    first, out = runs / f"seed{seed}-dense", runs / f"seed{seed}-compress"
    run_all(config, first, log=log)
    full, dataset = first / "finetune" / "model", load_data(config)
    calibration = compress(
        full,
        dataset.split("train").inputs,
        out,
        options=CompressOptions(
            speedup=options.speedup, changes={"compute_dtype": config.compute_dtype, "seed": seed}
        ),
        log=log,
    )
    by_speedup = budgets_of_speedups(calibration, options.speedup)
    texts = measure_test(
        full,
        out / "model",
        dataset,
        calibration=calibration,
        budgets=by_speedup.values(),
        dtype=config.compute_dtype,
    )
    rows = [
        {"what": "compress", "asked_speedup": options.speedup}
        | {"method": load_model(out / "model").pruner_name}
        | speed_row(texts, by_speedup[options.speedup])
    ]
    rows += [
        {"what": "budget", "asked_speedup": speedup} | speed_row(texts, by_speedup[speedup])
        for speedup in SPEEDUPS
        if speedup in by_speedup
    ]
    rows += [
        certificate_row(texts, calibration.budgets, rate, escalates_to=escalates_to)
        for rate in RATES
        for escalates_to in (NONE, *ESCALATIONS)
    ]
    return [{"task": options.task, "seed": seed} | row for row in rows]


def main(options):
    """Measure the seeds that the record lacks, and print its rows."""
    changes = {"model": options.model} | parse_changes(options.set)
    record = Record(
        options.json,
        {"task": options.task, "speedup": options.speedup} | changes,
        module="benchmarks.promise",
    )
    there = {row["seed"] for row in record.rows}
    for seed in sorted(set(map(int, options.seeds)) - there):
        record.add(run_seed(options, changes, seed, log=print_note))
    print_table([row for row in record.rows if row["what"] != "certificate"])
    print_table([row for row in record.rows if row["what"] == "certificate"])


if __name__ == "__main__":
    flags.DEFINE_string("task", None, "a task of configs/adapler.py")
    flags.DEFINE_string("model", "bert-base-uncased", "local directory or hub name of a BERT")
    flags.DEFINE_multi_string("set", [], "FIELD=VALUE of configs/finetune.py; may be given again")
    flags.DEFINE_string("runs", None, "folder of the workdirs")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "training seeds; the splits stay the same")
    flags.DEFINE_float("speedup", 2.0, "FLOPs speedup to compress to")
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.mark_flags_as_required(["task", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
