"""Describe a calibration in a model's card."""

from adapler_jax.evaluation.certificate import Certificate
from adapler_jax.inference.calibration import Calibration

BUDGETS = """## Budgets

`model.predict(texts, budget=0.4)` keeps about that share of the tokens. Measured on {num_texts:,}
texts that did not calibrate the budgets:

| budget | tokens kept | FLOPs speedup | agreement with the full model |{score_title}
|---|---|---|---|{score_line}
{rows}"""
CERTIFIED = """`model.predict(texts, certified=True)` has a bound: {sentence}. Its speed:
{speed}.

Texts like these are different texts, drawn as the calibration's texts were. The bound does not hold
for texts of other topics, languages, sources or times; `adapler calibrate` on them gives
another."""


def card_section(calibration: Calibration) -> str:
    """Return the section of a card: the budgets, and the certificate if there is one."""
    has_scores = any("score" in row for row in calibration.rows)
    rows = [
        f"| {row['budget']:g} | {100 * row['kept_share']:.1f}% | {row['flops_speedup']:.2f}x "
        f"| {100 * row['agreement']:.1f}% |"
        + (f" {100 * row['score']:.1f}% |" if has_scores else "")
        for row in calibration.rows
    ]
    parts = [
        BUDGETS.format(
            num_texts=calibration.num_held_out,
            rows="\n".join(rows),
            score_title=" accuracy |" if has_scores else "",
            score_line="---|" if has_scores else "",
        )
    ]
    if calibration.certificate is not None:
        fields = {name: calibration.certificate[name] for name in Certificate._fields}
        found = Certificate(**fields)
        parts.append(CERTIFIED.format(sentence=found.sentence(), speed=found.speed()))
    return "\n\n".join(parts)
