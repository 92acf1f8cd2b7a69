"""Describe a calibration in a model's card."""

from adapler_jax.evaluation.certificate import Certificate
from adapler_jax.inference.calibration import Calibration

BUDGETS = """## Budgets

`model.{call}, budget=0.4)` keeps about that share of the tokens. Measured on {measured} that did
not calibrate the budgets:

{table}"""
CERTIFIED = """`model.{call}, certified=True)` has a bound: {sentence}. Its speed:
{speed}.{left_out}

{Unit} like these are different {unit}, drawn as the calibration's {unit} were. The bound does not
hold for {unit} of other topics, languages, sources or times; `adapler calibrate` on them gives
another."""


def measured_columns(calibration: Calibration) -> dict[str, str]:
    """Return the scores of each budget that were measured, and the titles of their columns."""
    titles = {"agreement": "agreement with the full model", "score": "accuracy"}
    if calibration.queries is not None:
        titles = {
            "kendall_tau": "Kendall's tau",
            "top10_overlap": "same top 10",
            "alike_queries": f"queries that share {calibration.queries['min_shared']} of 10",
        }
    return {name: title for name, title in titles.items() if name in calibration.rows[0]}


def card_section(calibration: Calibration) -> str:
    """Return the section of a card: the budgets, and the certificate if there is one."""
    columns, queries = measured_columns(calibration), calibration.queries
    call, unit = "predict(texts", "texts"
    measured = f"{calibration.num_held_out:,} texts"
    if queries is not None:
        call, unit = "rank(query, documents", "queries"
        measured = f"{queries['num_queries']:,} queries with {calibration.num_held_out:,} documents"
    titles = ["budget", "tokens kept", "FLOPs speedup", *columns.values()]
    lines = [
        [
            f"{row['budget']:g}",
            f"{100 * row['kept_share']:.1f}%",
            f"{row['flops_speedup']:.2f}x",
            *(f"{100 * row[name]:.1f}%" for name in columns),
        ]
        for row in calibration.rows
    ]
    head, *rows = [f"| {' | '.join(cells)} |" for cells in (titles, *lines)]
    table = "\n".join([head, f"|{'---|' * len(titles)}", *rows])
    parts = [BUDGETS.format(call=call, measured=measured, table=table)]
    if calibration.certificate is not None:
        parts.append(_certified(calibration.certificate, call, unit))
    return "\n\n".join(parts)


def _certified(certificate: dict, call: str, unit: str) -> str:
    """Return a certificate in words, with its limits."""
    fields = {name: certificate[name] for name in Certificate._fields if name in certificate}
    found = Certificate(**fields)
    return CERTIFIED.format(
        call=call,
        sentence=found.sentence(),
        speed=found.speed(),
        left_out=f" {found.left_out()}." if found.num_left_out else "",
        unit=unit,
        Unit=unit.capitalize(),
    )
