"""What a finished run ends with: a table of its phases, and the next command."""

import pathlib
from collections.abc import Sequence

from adapler_jax.provenance import command_line
from adapler_jax.training.phases import is_done, read_done, validation_split
from adapler_jax.training.setup import Setup
from adapler_jax.training.workdir import read_seconds

COLUMNS = ("phase", "score", "speedup", "seconds", "model")


def summary(workdir: pathlib.Path, names: Sequence[str], setup: Setup) -> list[str]:
    """Return the lines that a run ends with.

    Args:
      workdir: of the run.
      names: of its phases in their order.
      setup: of the run.
    """
    seconds = read_seconds(workdir)
    rows = [COLUMNS, *(_row(workdir, name, seconds) for name in names if is_done(workdir / name))]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        f"{setup.task.metric} of the validation split in percent, FLOPs speedup over plain BERT:"
    ]
    for name, *numbers, model in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1])]
        lines.append("  ".join([name.ljust(widths[0]), *cells, model]).rstrip())
    share = setup.task.majority.get(validation_split(setup))
    if share is not None and setup.task.metric == "accuracy":
        lines.append(f"the most frequent class alone would score {100 * share:.1f}")
    return [*lines, f"next: {command_line(['python', 'evaluate.py', f'--workdir={workdir}'])}"]


def _row(workdir: pathlib.Path, name: str, seconds: dict[str, float]) -> tuple[str, ...]:
    """Return the cells of a finished phase."""
    scores, model = read_done(workdir / name).get("validation") or {}, workdir / name / "model"
    return (
        name,
        f"{100 * scores['score']:.1f}" if "score" in scores else "",
        f"{scores['flops_speedup']:.2f}x" if "flops_speedup" in scores else "",
        f"{seconds[name]:.0f}" if name in seconds else "",
        str(model) if model.exists() else "",
    )
