"""Measured rows as a table for people and as JSON for the record."""

import contextlib
import datetime
import json
import pathlib
import platform
import re
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.plain import plain
from adapler_jax.io.provenance import commit_of_tree, device_name
from adapler_jax.io.terminal import one_line

NUMBER = re.compile(r"[+-]?\d[\d,.]*(e[+-]?\d+)?[x%]?")  # as cells write them
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that decide numbers, where they are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def print_table(
    rows: list[dict], *, columns: list[str] | None = None, title: str | None = None
) -> None:
    """Prints rows; columns default to all keys in the order of their first appearance.

    Texts are shown as they are: no control character reaches the terminal, and no [markup] is read.
    """
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    lines = (title or "").split("\n")
    table = Table()
    for name in columns:
        cells = [format_cell(row.get(name)) for row in rows]
        numeric = any(NUMBER.fullmatch(cell) for cell in cells)
        table.add_column(
            Text(one_line(name)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(one_line(format_cell(row.get(name)))) for name in columns))
    # Piped output has no width of its own; 80 columns would fold the cells.
    console = Console()
    console = Console(width=None if console.is_terminal else 240)
    for line in lines if title else ():  # as a title of the table they would have trailing blanks
        console.print(Text(one_line(line), style="italic"), soft_wrap=True)
    console.print(table)


def format_cell(value) -> str:
    """A number with four significant digits, a list with one decimal each, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(
            f"{entry:.1f}" if isinstance(entry, float) else str(entry) for entry in value
        )
    return str(value)


def results_record(rows: list[dict], *, command: str) -> dict:
    """{command, commit, device, versions, date, rows}."""
    return {
        "command": command,
        "commit": commit_of_tree(),
        "device": device_name(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rows": rows,
    }


def write_json(path, record: dict, *, checksum: bool = False) -> None:
    """Write a record, whole or not at all; what is NaN or infinite is null.

    Args:
      path: of the file; its folder is made.
      record: of plain types.
      checksum: whether the file can be verified later.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(
        path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n", checksum=checksum
    )


def write_record(rows: list[dict], *, command: str, path=None, more_versions=None) -> None:
    """Writes the record of a benchmark where a path is given.

    Args: more_versions: {package: version} beside those of `versions`.
    """
    if path:
        record = results_record(rows, command=command)
        write_json(path, record | {"versions": record["versions"] | (more_versions or {})})


def print_results(rows: list[dict], *, columns=None) -> None:
    """Prints the rows of a benchmark under the device and the version of JAX; columns as in `print_table`."""
    print_table(rows, columns=columns, title=f"{device_name()}; jax {metadata.version('jax')}")


def write_results(
    rows: list[dict], *, command: str, path=None, columns=None, more_versions=None
) -> None:
    """Prints and writes them."""
    print_results(rows, columns=columns)
    write_record(rows, command=command, path=path, more_versions=more_versions)
