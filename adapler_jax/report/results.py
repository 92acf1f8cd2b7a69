"""Measured rows as a table for people and as JSON for the record."""

import datetime
import json
import pathlib
import platform
from importlib import metadata

from rich.console import Console
from rich.table import Table

from adapler_jax.provenance import commit_of_tree, device_name
from adapler_jax.training.workdir import replace_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers, and of Python."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def print_table(rows: list[dict], *, columns: list[str] | None = None, title: str | None = None) -> None:
    """Prints rows; columns default to all keys in the order of their first appearance."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for name in columns:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(format_cell(row.get(name)) for name in columns))
    # Piped output has no width of its own; 80 columns would fold the cells.
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)


def format_cell(value) -> str:
    """A number with four significant digits, a list with one decimal each, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(f"{entry:.1f}" if isinstance(entry, float) else str(entry) for entry in value)
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


def write_json(path, record: dict) -> None:
    """Writes a record, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(record, indent=1) + "\n")


def write_results(rows: list[dict], *, command: str, path=None, columns=None, more_versions=None) -> None:
    """Prints the rows of a benchmark and, where a path is given, writes their record.

    Args: columns: that are printed, as in `print_table`. more_versions: {package: version} beside those of `versions`.
    """
    print_table(rows, columns=columns)
    if path:
        record = results_record(rows, command=command)
        write_json(path, record | {"versions": record["versions"] | (more_versions or {})})
