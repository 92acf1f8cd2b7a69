"""Write the end of a phase and of a run: scores, a table of phases, the next command."""

import pathlib
from collections.abc import Sequence

from adapler_jax.io.provenance import subcommand_line
from adapler_jax.training.loop import format_metrics
from adapler_jax.training.methods import METHODS
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.phases import is_complete, read_done
from adapler_jax.training.setup import RunContext
from adapler_jax.training.targets import FIELD as TARGETS
from adapler_jax.training.validation import TOKEN_SPEEDUP, token_speedup, validation_split
from adapler_jax.training.workdir import read_seconds

COLUMNS = ("phase", "score", "speedup", "seconds", "model")
NEARLY_DENSE = 1.25  # a summary of a smaller FLOPs speedup names the field to change
SUGGESTED_SPEEDUP = 2.0
SHORT = 0.99  # less than this times the requested speedup is slower than asked
OVERSHOT = 1.05  # more than this times the requested speedup is faster than asked


def describe(done: dict) -> str:
    """Return the closing record of a phase in words."""
    scores = done.get("validation")
    if scores is None:
        return f"{done['num_examples']} examples"
    if not done.get("is_reached", True):
        return _describe_out_of_reach(done)
    words = format_metrics(scores)
    if "target_speedup" in done:
        words = (
            f"brought to {done['target_speedup']:g}x: {_results(done) or words}{_distance(done)}"
        )
    if "kept_tokens" in scores:
        words += f", tokens in each layer {' '.join(f'{n:.1f}' for n in scores['kept_tokens'])}"
    return f"{words}; {done['note']}" if "note" in done else words


def _results(done: dict) -> str:
    """Return what a calibration compared, in words; empty where a record has no comparison."""
    if not done.get("trained_on"):
        return f"scaled only, {format_metrics(done['scaled'])}" if "scaled" in done else ""
    scaled, trained_on = (format_metrics(done[name]) for name in ("scaled", "trained_on"))
    kept = "the scaled model" if done["kept"] == "scaled" else "the model that was trained on"
    return f"scaled, {scaled}; trained on, {trained_on}; {kept} is kept"


def _describe_out_of_reach(done: dict) -> str:
    """Return the closing record of a phase whose requested speedup is out of reach, in words."""
    limit = " with all that the method can drop" if done["at_limit"] else ""
    # Only AdapLeR's models can drop more after another training.
    longer = ", or train with a larger config.adapler.length_coef in a new --workdir"
    return (
        f"{done['target_speedup']:g}x is out of reach: "
        f"{format_metrics(done['validation'])}{limit}. "
        f"No model is saved; ask for less{longer if 'kept' in done else ''}"
    )


def _distance(done: dict) -> str:
    """Return how a phase missed the requested speedup, in words; empty where it did not.

    PoWER-BERT's counts reach it on the training texts. Longer texts save more with equal counts.
    """
    asked, found = done["target_speedup"], done["validation"]["flops_speedup"]
    if "training_speedup" in done:
        return f", {done['training_speedup']:.2f}x on the lengths of the training texts"
    if found < asked * SHORT:
        limit = " with all that the method can drop" if done["at_limit"] else ""
        return f", short of {asked:g}x{limit}"
    if not _is_overshot(done):
        return ""
    reason = "nothing that was tried comes nearer"
    if done.get("at_lowest", False):
        fewer = "has fewer layers" if TOKEN_SPEEDUP in done["validation"] else "drops more already"
        reason = f"the model {fewer}, and cannot be made to drop less"
    return f", faster than the target {asked:g}x ({reason})"


def _is_overshot(done: dict) -> bool:
    """Say whether a phase's model is more than 5% faster than requested."""
    asked = done.get("target_speedup")
    return asked is not None and done["validation"]["flops_speedup"] > asked * OVERSHOT


def summary(workdir: pathlib.Path, names: Sequence[str], context: RunContext) -> list[str]:
    """Return the lines that a run ends with.

    Args:
      workdir: of the run.
      names: of its phases in their order.
      context: of the run.
    """
    seconds = read_seconds(workdir)
    rows = [
        COLUMNS,
        *(_row(workdir, name, seconds) for name in names if is_complete(workdir / name)),
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        f"{context.task.metric} of the validation split in percent, FLOPs speedup over plain BERT:"
    ]
    for name, *numbers, model in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1])]
        lines.append("  ".join([name.ljust(widths[0]), *cells, model]).rstrip())
    lines += _hints(workdir, names)
    share = context.task.majority.get(validation_split(context))
    if share is not None and context.task.metric == "accuracy":
        lines.append(f"the most frequent class alone would score {100 * share:.1f}")
    return [*lines, f"next: {subcommand_line('evaluate', f'--workdir={workdir}')}"]


def _hints(workdir: pathlib.Path, names: Sequence[str]) -> list[str]:
    """Return a line on the field to change if the method's models drop hardly a token.

    A model that was brought to its target needs no advice.
    """
    methods = [name for name in names if name in METHODS and METHODS[name].drops_tokens]
    if not methods:
        return []
    (method,) = methods
    later = [name for name in names[names.index(method) :] if is_complete(workdir / name)]
    records = [read_done(workdir / name) for name in later]
    speedups = [token_speedup(done["validation"]) or 1.0 for done in records]
    has_target = any("target_speedup" in done and done.get("is_reached", True) for done in records)
    if not speedups or has_target or max(speedups) >= NEARLY_DENSE:
        return []
    steps = max((entry["step"] for entry in read_metrics_log(workdir / method)), default=0)
    after = f" after {steps} steps" if steps else ""
    advice = f"change {' or '.join(f'config.{x}' for x in METHODS[method].tradeoff_fields)}"
    target = next((x for x in METHODS[method].tradeoff_fields if x.endswith(TARGETS)), None)
    if target:
        advice = f"ask for a speedup by config.{target}=({SUGGESTED_SPEEDUP},)"
    return [f"as trained {speedups[0]:.2f}x{after}: {advice}"]


def _row(workdir: pathlib.Path, name: str, seconds: dict[str, float]) -> tuple[str, ...]:
    """Return the cells of a finished phase."""
    done = read_done(workdir / name)
    scores = done.get("validation") or {}
    return (
        name,
        f"{100 * scores['score']:.1f}" if "score" in scores else "",
        f"{scores['flops_speedup']:.2f}x" if "flops_speedup" in scores else "",
        f"{seconds[name]:.0f}" if name in seconds else "",
        _model_cell(workdir / name / "model", done),
    )


def _model_cell(model: pathlib.Path, done: dict) -> str:
    """Return the path of a phase's model, or the reason for its absence."""
    if not done.get("is_reached", True):
        return f"none: {done['target_speedup']:g}x is out of reach"
    if not model.exists():
        return ""
    asked = f" (faster than the target {done['target_speedup']:g}x)" if _is_overshot(done) else ""
    return f"{model}{asked}"
