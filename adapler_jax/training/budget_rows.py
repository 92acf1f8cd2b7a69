"""Score the calibrated models of a run at other budgets."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from adapler_jax.inference.calibration import read_calibration
from adapler_jax.training.evaluation_rows import Scored, difference_columns, model_columns
from adapler_jax.training.loaded_run import FinishedRun, Log
from adapler_jax.weights.save import Saved

WITHOUT_BUDGETS = {  # by the head
    "embedding": "vectors",
    "multi_label": "several labels a text",
    "token_classification": "tags of words",
}


def calibrated_models(run: FinishedRun, budgets: Sequence[float], *, log: Log) -> dict[str, Saved]:
    """Return a run's models that take budgets, with their calibrations, by name.

    Args:
      run: its finished models.
      budgets: to check, shares of tokens to keep; without any, nothing is read.
      log: receives a sentence for each model without a calibration.

    Raises:
      ValueError: a model has no such budget, or its calibration is of other shares.
    """
    kind = WITHOUT_BUDGETS.get(run.task.head.name)
    if budgets and kind:
        raise ValueError(f"the task {run.task.name} has {kind}, whose models take no budgets")
    found = {}
    for name, saved in run.models.items() if budgets else ():
        pruner = run.pruners[name]
        if not pruner.takes_budgets:
            continue
        calibration = read_calibration(saved.directory, len(pruner.sites))
        if calibration is None:
            log(f"{name}: takes budgets after `adapler calibrate --model={saved.directory}`")
            continue
        for budget in budgets:
            calibration.check_budget(budget)
        found[name] = dataclasses.replace(saved, params=calibration.apply(saved.params))
    return found


def budget_rows(
    dense: Scored, calibrated: Mapping[str, Saved], budgets: Sequence[float], *, log: Log
) -> list[dict[str, Any]]:
    """Return a row for each calibrated model and budget, with the column `budget`.

    Args:
      dense: the dense model on the split.
      calibrated: models of its run, as `calibrated_models` returns them.
      budgets: shares of tokens to keep.
      log: receives a sentence for each row.
    """
    run, split = dense.run, dense.split
    rows = []
    for name, saved in calibrated.items():
        for budget in budgets:
            log(f"{name}: {split} at budget {budget:g}, compiling ...")
            label = f"{name} at {budget:g}"
            changed = run.with_model(
                label, saved, run.pruners[name], expected_speedup=1.0 / budget, budget=budget
            )
            scored = Scored(changed, split, *changed.score(label, split))
            rows.append(
                model_columns(label, scored)
                | difference_columns(scored, dense)
                | {"budget": budget}
            )
    return rows
