"""Print measured rows as a table, and write them as JSON."""

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
from adapler_jax.io.messages import one_line
from adapler_jax.io.plain import plain
from adapler_jax.io.provenance import commit_of_tree, device_name

NUMBER = re.compile(r"[+-]?\d[\d,.]*(e[+-]?\d+)?[x%]?")  # a cell with a number
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that decide numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def print_table(
    rows: list[dict], *, columns: list[str] | None = None, title: str | None = None
) -> None:
    """Print rows as a table; no control character or [markup] of a text takes effect.

    Args:
      rows: cells by column name.
      columns: names and their order; None for all keys in the order of their first appearance.
      title: lines above the table.
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
    for line in lines if title else ():  # a title of the table would have trailing blanks
        console.print(Text(one_line(line), style="italic"), soft_wrap=True)
    console.print(table)


def format_cell(value) -> str:
    """Return a number with four significant digits, a list with one decimal; None as nothing."""
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
    """Return a record of {command, commit, device, versions, date, rows}."""
    return {
        "command": command,
        "commit": commit_of_tree(),
        "device": device_name(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rows": rows,
    }


def write_json(path, record: dict, *, checksum: bool = False) -> None:
    """Write a record in one step; NaN and infinity become null.

    Args:
      path: of the file; its folder is made.
      record: of plain types.
      checksum: whether to write a checksum, which `check_file` verifies.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(
        path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n", checksum=checksum
    )


def write_record(rows: list[dict], *, command: str, path=None, more_versions=None) -> None:
    """Write the record of a benchmark if a path is given.

    Args:
      rows: measured rows.
      command: that measured them.
      path: of the file; None to write nothing.
      more_versions: versions by package, next to the ones of `versions`.
    """
    if path:
        record = results_record(rows, command=command)
        write_json(path, record | {"versions": record["versions"] | (more_versions or {})})


def print_results(rows: list[dict], *, columns=None) -> None:
    """Print the rows of a benchmark under the device and the version of JAX."""
    print_table(rows, columns=columns, title=f"{device_name()}; jax {metadata.version('jax')}")


def write_results(
    rows: list[dict], *, command: str, path=None, columns=None, more_versions=None
) -> None:
    """Print the rows of a benchmark, and write them by `write_record`."""
    print_results(rows, columns=columns)
    write_record(rows, command=command, path=path, more_versions=more_versions)
