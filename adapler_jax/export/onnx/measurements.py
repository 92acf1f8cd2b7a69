"""Keep what exported files do on texts, in the folder of the model and in its card."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapler_jax.export.onnx.settings import file_digests
from adapler_jax.io.atomic_files import remove_file, replace_text
from adapler_jax.weights.card import EXPORT, set_card_part
from adapler_jax.weights.config import EXPORTS_FILE, read_json

BATCH_SIZE = 32  # of the timed batches
EQUAL_LABELS, TAU = "equal labels", "Kendall's tau"  # with the library's model in float32
SECTION = """## Exported files

Compared with this library's model in float32. Times are on all cores of the device and include the
tokenization.

| file | texts | {measure} | accuracy | one text | batches of {batch_size} | device |
|---|---|---|---|---|---|---|
{rows}"""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Labels and seconds of an exported file on some texts."""

    num_texts: int
    agreement: float  # `measure`, of 1
    accuracy: float | None  # None without labels
    library_accuracy: float | None  # of the library's model
    milliseconds: float  # of one text, the median
    sentences_per_s: float  # in batches of BATCH_SIZE
    device: str
    engine: str  # with its version
    digests: dict[str, str]  # of the model's files that the export took settings from
    # EQUAL_LABELS: share of texts. TAU of the scores of each query's documents, mean over queries.
    measure: str = EQUAL_LABELS

    def sentence(self) -> str:
        """Return the numbers in words."""
        scores = ""
        if self.accuracy is not None and self.library_accuracy is not None:
            scores = (
                f", accuracy {100 * self.accuracy:.1f}% (library "
                f"{100 * self.library_accuracy:.1f}%)"
            )
        if self.measure == TAU:
            found = f"Kendall's tau with the library's order of {self.num_texts:,} texts is "
            found += f"{self.agreement:.4f}"
        else:
            found = f"{100 * self.agreement:.2f}% of {self.num_texts:,} texts have the library's "
            found += f"label{scores}"
        return (
            f"{found}; {self.milliseconds:.1f} ms a text, {self.sentences_per_s:.0f} texts a "
            f"second in batches of {BATCH_SIZE}"
        )

    def line(self, name: str) -> str:
        """Return the row of a file in the table of a card."""
        accuracy = "" if self.accuracy is None else f"{100 * self.accuracy:.1f}%"
        cells = (
            name,
            f"{self.num_texts:,}",
            f"{100 * self.agreement:.2f}%",
            accuracy,
            f"{self.milliseconds:.1f} ms",
            f"{self.sentences_per_s:.0f} texts/s",
            f"{self.device}, {self.engine}",
        )
        return f"| {' | '.join(cells)} |"


def record(
    path: Path,
    found: Measurement | None,
    *,
    dtype: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Write what a file does into the model's directory and card; None takes earlier numbers out.

    Numbers of other files go if labels, threshold or calibration have changed since.

    Args:
      path: of the file.
      found: numbers of the file.
      dtype: of the products' operands where the file leaves it open.
      log: receives a note on a card that stays as it is.
    """
    directory = path.parent.parent
    file = directory / EXPORTS_FILE
    if found is None and not file.is_file():
        return
    own = f"{path.parent.name}/{path.name}"
    named = f"{own}, {dtype}" if dtype else own
    digests = file_digests(directory)
    # A new file makes the numbers of every dtype wrong.
    rows = {
        name: row
        for name, row in _read(file).items()
        if row.digests == digests
        and name != named
        and (found is not None or name.partition(", ")[0] != own)
    }
    if found is not None:
        rows[named] = found
    rows, text = dict(sorted(rows.items())), ""
    if rows:
        contents = {name: dataclasses.asdict(row) for name, row in rows.items()}
        replace_text(file, json.dumps(contents, indent=1) + "\n")
        lines = [row.line(name) for name, row in rows.items()]
        measure = next(iter(rows.values())).measure  # one head has one
        text = SECTION.format(batch_size=BATCH_SIZE, measure=measure, rows="\n".join(lines))
    else:
        remove_file(file)
    set_card_part(directory, text, part=EXPORT, log=log)


def _read(file: Path) -> dict[str, Measurement]:
    """Return the numbers in a file, without numbers of a release with other fields.

    A damaged file has none, and the next measurement replaces it.
    """
    rows: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        rows = read_json(file) if file.is_file() else {}
    fields = {field.name for field in dataclasses.fields(Measurement)}
    return {
        name: Measurement(**row)
        for name, row in rows.items()
        if isinstance(row, dict) and fields - {"measure"} <= set(row) <= fields
    }
