"""A record of latencies on one device: its file, and the one that decides on this device.

A table belongs to one device and to the library versions that compiled the programs. `find_table`
takes the first of these: the table that the user names; the table measured on this device before,
in the user's cache directory; on CPUs the library's own, measured on another CPU.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import warnings

import jax

from adapler_jax.io.atomic_files import check_file, replace_text
from adapler_jax.io.messages import excerpt, shown
from adapler_jax.io.provenance import device_name, library_versions
from adapler_jax.io.user_folders import user_cache

MEASURE_COMMAND = "adapler latency"
BUNDLED_TABLE = pathlib.Path(__file__).with_name("default_latency.json")
PRUNING_DRIVERS = ("bucketed", "packed")
BUCKET = "rung"  # the name in files
MAX_COUNT, MAX_NUMBER = 1 << 40, 1e15  # of a row: logarithms and products of these stay finite
MAX_FILE_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Row:
    """The latency of one forward pass on random weights; the fields are the keys of the file."""

    what: str  # one of PRUNING_DRIVERS; or BUCKET: "bucketed" on a full batch of its only bucket
    num_layers: int
    num_heads: int
    hidden_dim: int
    ffn_dim: int
    dtype: str  # of the operands of the encoder's products
    batch: int
    length: int  # token slots
    live_share: float  # fraction of the slots that hold a token
    speedup: float | None  # FLOPs speedup to which tokens are dropped; None for plain BERT
    ms: float

    @property
    def encoder(self) -> tuple[int, int, int, int]:
        """Return the sizes of the encoder."""
        return self.num_layers, self.num_heads, self.hidden_dim, self.ffn_dim

    @property
    def is_pruned(self) -> bool:
        """Return True if tokens were dropped."""
        return self.speedup is not None


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Rows measured on one device; `command` and `date` (ISO, UTC) of the last measurement."""

    command: str
    device: str
    versions: dict[str, str]
    date: str
    rows: tuple[Row, ...]


TableSource = LatencyTable | str | os.PathLike | None  # a table, the path of one, or None


def case_of(row: Row) -> tuple:
    """Return all that a row's milliseconds depend on, except the driver."""
    return (*row.encoder, row.dtype, row.batch, row.length, row.live_share, row.speedup)


def parse_row(entry: dict) -> Row:
    """Convert a row of a file.

    Raises:
      ValueError, TypeError: it is no row.
    """
    row = Row(**entry)
    names = (*PRUNING_DRIVERS, BUCKET)
    if not isinstance(row.what, str) or not isinstance(row.dtype, str) or row.what not in names:
        raise ValueError(f"what={row.what!r}, dtype={row.dtype!r}")
    counts = (*row.encoder, row.batch, row.length)
    if not all(type(count) is int and 0 < count <= MAX_COUNT for count in counts):
        raise ValueError(f"sizes {counts}")
    numbers = [row.ms, row.live_share]
    if row.speedup is not None:
        numbers.append(row.speedup)
    if not all(type(number) in (int, float) and 0 < number <= MAX_NUMBER for number in numbers):
        raise ValueError(f"numbers {tuple(numbers)}")
    return row


def check_complete(rows: tuple[Row, ...]) -> None:
    """Check that the rows suffice to select a driver for every model.

    Raises:
      ValueError: rows are missing, or two rows are of the same measurement.
    """
    if len({(row.what, case_of(row)) for row in rows}) < len(rows):
        raise ValueError("two rows of the same measurement")
    for kind, is_pruned in (("a pruner", True), ("plain BERT", False)):
        cases = [
            {case_of(row) for row in rows if row.what == driver and row.is_pruned == is_pruned}
            for driver in PRUNING_DRIVERS
        ]
        if not set.intersection(*cases):
            drivers = " and ".join(PRUNING_DRIVERS)
            raise ValueError(f"no rows of {drivers} on the same case with {kind}")
    if not any(row.what == BUCKET for row in rows):
        raise ValueError(f"no rows of {BUCKET}s")


def parse_table(text: bytes) -> LatencyTable:
    """Convert the content of a file.

    Raises:
      ValueError, TypeError, KeyError, RecursionError: it is no table.
    """
    record = json.loads(text)
    if not isinstance(record, dict) or not isinstance(record["rows"], list):
        raise ValueError("expected an object with a list of rows")
    rows = tuple(map(parse_row, record["rows"]))
    check_complete(rows)
    table = LatencyTable(**record | {"rows": rows})
    if not _all_texts((table.command, table.device, table.date)):
        raise ValueError("command, device or date is no text")
    if not isinstance(table.versions, dict) or not _all_texts(table.versions.values()):
        raise ValueError("versions are missing, or no texts by name")
    return table


def _all_texts(values) -> bool:
    """Return True if all values are texts."""
    return all(isinstance(value, str) for value in values)


def read_table(path: pathlib.Path) -> LatencyTable:
    """Read a table.

    Raises:
      ValueError: the file is damaged; the message names it.
      OSError: the file cannot be read.
    """
    check_file(path, f"remove it and measure this device again with {MEASURE_COMMAND}")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it has more than {MAX_FILE_BYTES >> 20} MiB")
        return parse_table(path.read_bytes())
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {excerpt(str(error))}"
        raise ValueError(
            f"{path} is no latency table or a damaged one ({reason}); measure this device with "
            f"{MEASURE_COMMAND}"
        ) from error


def write_table(table: LatencyTable, path: pathlib.Path) -> None:
    """Write a table atomically, a line for each row."""
    record = dataclasses.asdict(table)
    rows = ",\n  ".join(json.dumps(row) for row in record.pop("rows"))
    head = json.dumps(record, indent=1).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, f'{head},\n "rows": [\n  {rows}\n ]\n}}\n', checksum=True)


def cached_path() -> pathlib.Path:
    """Return the path of this device's table in the user's cache directory.

    The file name contains the device and the library versions.
    """
    versions = [f"{name} {version}" for name, version in library_versions().items()]
    parts = [
        re.sub(r"[^a-z0-9.]+", "_", part.lower()).strip("_") for part in (device_name(), *versions)
    ]
    return user_cache("latency") / f"{'-'.join(parts)}.json"


def check_origin(table: LatencyTable, source: str) -> None:
    """Check that a table was measured on this device with these library versions.

    Args:
      table: that is checked.
      source: name of the table in the message.

    Raises:
      ValueError: it was measured elsewhere.
    """
    device, versions = device_name(), library_versions()
    if table.device != device:
        raise ValueError(
            f"{source} was measured on another device: {shown(table.device, 300)}, this one is "
            f"{device!r}; measure it with {MEASURE_COMMAND}, or leave "
            "config.inference.autotune_table empty"
        )
    if table.versions != versions:
        raise ValueError(
            f"{source} was measured with other versions: {excerpt(one_line(table.versions))}, here "
            f"are {one_line(versions)}; measure again with {MEASURE_COMMAND}, or leave "
            "config.inference.autotune_table empty"
        )


def one_line(versions: dict[str, str]) -> str:
    """Return names and versions on a line."""
    return " ".join(f"{name} {version}" for name, version in versions.items())


def find_table(autotune_table: TableSource = None) -> LatencyTable | None:
    """Return the table that decides on this device.

    Args:
      autotune_table: a table or the path of one. None or "" for the table measured on this device
        before; without one, on CPUs, the library's own. A damaged one logs a warning.

    Returns:
      The table; None, with a warning, on an accelerator without one.

    Raises:
      ValueError: a named table is missing, damaged, or was measured on another device or with
        other versions.
    """
    if isinstance(autotune_table, LatencyTable):
        check_origin(autotune_table, "the latency table")
        return autotune_table
    if autotune_table is not None and not isinstance(autotune_table, str | os.PathLike):
        raise ValueError(
            f"autotune_table is {shown(autotune_table, 300)}; expected the path of a table, or none"
        )
    if autotune_table:
        return named_table(pathlib.Path(autotune_table).expanduser())
    return device_table() or (bundled_table() if on_cpu() else no_table(device_name()))


def on_cpu() -> bool:
    """Return True if programs run on a CPU, as for the library's own table."""
    return jax.default_backend() == "cpu"


@functools.cache  # one warning a device
def no_table(device: str) -> None:
    """Warn that nothing was measured on this device."""
    warnings.warn(
        f"nothing was measured on {excerpt(device)}, so the bucketed driver runs, padded for "
        f"models that drop nothing; measure the device once with {MEASURE_COMMAND}, or name a "
        "driver",
        stacklevel=4,
    )


def named_table(path: pathlib.Path) -> LatencyTable:
    """Return the table at a user's path.

    Raises:
      ValueError: it cannot be read, is damaged, or was measured elsewhere.
    """
    try:
        table = read_table(path)
    except OSError as error:
        raise ValueError(
            f"config.inference.autotune_table is {str(path)!r}, which cannot be read "
            f"({error.strerror}); make it with {MEASURE_COMMAND} --out={path}"
        ) from error
    check_origin(table, str(path))
    return table


def device_table() -> LatencyTable | None:
    """Return the table measured on this device before; None, with a warning, if it is unusable."""
    try:
        path = cached_path()
    except RuntimeError:  # a user without a home
        return None
    try:
        table = read_table(path)
        check_origin(table, str(path))
        return table
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        rule = "by the table that comes with the library" if on_cpu() else "without measurements"
        warnings.warn(f"{error}; until then drivers are chosen {rule}", stacklevel=4)
        return None


@functools.cache
def bundled_table() -> LatencyTable:
    """Return the library's own table."""
    return read_table(BUNDLED_TABLE)
