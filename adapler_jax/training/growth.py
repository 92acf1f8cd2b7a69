"""Add epochs to a finished phase: train on from its model, and repeat later phases.

The end of a phase removes the optimizer's state. The added epochs therefore have a schedule of
their own: rates rise and fall again, slopes stay at their last value. A continued phase has
`continued.json` in place of its closing record.
"""

import json
import pathlib
import shutil
from collections.abc import Callable, Sequence

from adapler_jax.io.atomic_files import remove_file, replace_text
from adapler_jax.training.checkpoints import LAST
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.workdir import (
    ADAPT,
    DONE,
    GROWING_FIELDS,
    TRAIN_PHASE,
    read_object,
    started_targets,
)

CONTINUED = "continued.json"
OUTDATED = (
    ".outdated"  # ends the name of a phase that was trained from an earlier state of another one
)


def finished_epochs(directory: pathlib.Path) -> int:
    """Return the epochs of a finished phase; from its metrics log in records of release 0.1."""
    found = read_object(directory / DONE, TRAIN_PHASE).get("num_epochs")
    if found is not None:
        return found
    return max((entry.get("epoch", 0) for entry in read_metrics_log(directory)), default=0)


def continued_epochs(directory: pathlib.Path) -> int:
    """Return the epochs that a continued phase had before; 0 in its first training."""
    path = directory / CONTINUED
    return (
        read_object(path, f"remove {directory} and train it again")["num_epochs"]
        if path.exists()
        else 0
    )


def grow(
    workdir: pathlib.Path, config, *, names: Sequence[str], log: Callable[[str], None]
) -> None:
    """Reopen finished phases whose number of epochs is larger now, and set later phases aside.

    Args:
      workdir: of the run, held by this process.
      config: of the run.
      names: of the phases in their order.
      log: receives a note for each phase.
    """
    for field in GROWING_FIELDS:
        name = field.partition(".")[0]
        directory = workdir / name
        if name not in names or not (directory / DONE).exists():
            continue
        before, now = finished_epochs(directory), config[name].num_epochs
        if not 0 < before < now:
            continue
        # Phases of earlier calls: with targets, the phase of the method's name is not in the list.
        others = (config["method"], *started_targets(workdir, (ADAPT, config["method"])))
        later = [*names[names.index(name) + 1 :], *(x for x in others if x not in names)]
        outdated = [other for other in later if (workdir / other).exists()]
        for other in outdated:
            shutil.rmtree(workdir / (other + OUTDATED), ignore_errors=True)
            (workdir / other).rename(workdir / (other + OUTDATED))
        shutil.rmtree(directory / LAST, ignore_errors=True)
        replace_text(directory / CONTINUED, json.dumps({"num_epochs": before}), checksum=True)
        remove_file(directory / DONE)
        finished = "1 epoch is" if before == 1 else f"{before} epochs are"
        more = "1 more starts" if now - before == 1 else f"{now - before} more start"
        log(
            f"{name}: {finished} finished; {more} from its model, with a schedule of rates from "
            "its start"
        )
        if outdated:
            log(
                f"{', '.join(outdated)}: outdated, since {name} is trained on; kept as "
                f"*{OUTDATED} and done again"
            )
