"""Measured rows as a table for people and as JSON for the record."""

import contextlib
import datetime
import json
import pathlib
import platform
from importlib import metadata

from rich.console import Console
from rich.table import Table

from adapler_jax.provenance import commit_of_tree, device_name
from adapler_jax.weights.replace import replace_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that decide numbers, where they are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def print_table(rows: list[dict], *, columns: list[str] | None = None, title: str | None = None) -> None:
    """Prints rows; columns default to all keys in the order of their first appearance."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for name in columns:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(format_cell(row.get(name)) for name in columns))
    # Piped output has no width of its own; 80 columns would fold the cells.
    console = Console()
    Console(width=None if console.is_terminal else 240).print(table)


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


def write_json(path, record: dict, *, checksum: bool = False) -> None:
    """Writes a record, whole or not at all; checksum: whether it can be verified later."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(record, indent=1) + "\n", checksum=checksum)


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


def write_results(rows: list[dict], *, command: str, path=None, columns=None, more_versions=None) -> None:
    """Prints and writes them."""
    print_results(rows, columns=columns)
    write_record(rows, command=command, path=path, more_versions=more_versions)
