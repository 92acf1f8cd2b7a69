"""Score the calibrated models of a run at other budgets."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from adapler_jax.inference.calibration import read_calibration
from adapler_jax.training.evaluation_rows import Scored, difference_columns, model_columns
from adapler_jax.training.loaded_run import Log


def budget_rows(dense: Scored, budgets: Sequence[float], *, log: Log) -> list[dict[str, Any]]:
    """Return a row for each calibrated model and budget, with the column `budget`.

    Args:
      dense: the dense model on the split.
      budgets: shares of tokens to keep.
      log: receives a sentence for each row, and for each model without a calibration.

    Raises:
      ValueError: a model has no such budget.
    """
    run, split = dense.run, dense.split
    rows = []
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
            log(f"{name}: {split} at budget {budget:g}, compiling ...")
            label = f"{name} at {budget:g}"
            faster = dataclasses.replace(saved, params=calibration.apply(saved.params))
            changed = run.with_model(
                label, faster, pruner, expected_speedup=1.0 / budget, budget=budget
            )
            scored = Scored(changed, split, *changed.score(label, split))
            rows.append(
                model_columns(label, scored)
                | difference_columns(scored, dense)
                | {"budget": budget}
            )
    return rows
