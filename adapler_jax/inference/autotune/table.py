"""What a device was measured to need: the record that decides over drivers and buckets, its file, and where it lies.

A table belongs to one device and to the versions that compiled and wrote the programs. `find_table` takes, in this
order: the one that the user names, which is refused where it was measured elsewhere; the one measured on this device
before, under the user's cache directory; on CPUs the one that comes with the library, measured on another CPU.
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
BUCKET = "rung"
MAX_COUNT, MAX_NUMBER = 1 << 40, 1e15  # of a row: logarithms and products of these stay finite
MAX_FILE_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: an encoder's forward pass on one batch shape, random weights."""

    what: (
        str  # a fast driver; or BUCKET: "bucketed" on a full batch whose length is the only bucket
    )
    num_layers: int
    num_heads: int
    hidden_dim: int
    ffn_dim: int
    dtype: str  # of the operands of the encoder's products
    batch: int
    length: int  # token slots
    live_share: float  # of the slots that hold a token
    speedup: float | None  # FLOPs speedup to which tokens are dropped; None for plain BERT
    ms: float

    @property
    def encoder(self) -> tuple[int, int, int, int]:
        """The sizes of the encoder."""
        return self.num_layers, self.num_heads, self.hidden_dim, self.ffn_dim

    @property
    def is_pruned(self) -> bool:
        """Whether a pruner ran."""
        return self.speedup is not None


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Rows measured on one device; `command` and `date` (ISO, UTC) are those of the last measurement."""

    command: str
    device: str
    versions: dict[str, str]
    date: str
    rows: tuple[Row, ...]


def parse_row(entry: dict) -> Row:
    """A row of a file. Raises ValueError or TypeError where it is none."""
    row = Row(**entry)
    counts = (*row.encoder, row.batch, row.length)
    numbers = (
        (row.ms, row.live_share) if row.speedup is None else (row.ms, row.live_share, row.speedup)
    )
    if not all(isinstance(name, str) for name in (row.what, row.dtype)) or row.what not in (
        *PRUNING_DRIVERS,
        BUCKET,
    ):
        raise ValueError(f"what={row.what!r}, dtype={row.dtype!r}")
    if not all(type(count) is int and 0 < count <= MAX_COUNT for count in counts):
        raise ValueError(f"sizes {counts}")
    if not all(type(number) in (int, float) and 0 < number <= MAX_NUMBER for number in numbers):
        raise ValueError(f"numbers {numbers}")
    return row


def check_complete(rows: tuple[Row, ...]) -> None:
    """Raises ValueError where the rows do not suffice to choose for every model, or say a thing twice."""
    if len({(row.what, case_of(row)) for row in rows}) < len(rows):
        raise ValueError("two rows of the same measurement")
    for kind, is_pruned in (("a pruner", True), ("plain BERT", False)):
        cases = [
            {case_of(row) for row in rows if row.what == what and row.is_pruned == is_pruned}
            for what in PRUNING_DRIVERS
        ]
        if not set.intersection(*cases):
            raise ValueError(
                f"no rows of {' and '.join(PRUNING_DRIVERS)} on the same case with {kind}"
            )
    if not any(row.what == BUCKET for row in rows):
        raise ValueError(f"no rows of {BUCKET}s")


def case_of(row: Row) -> tuple:
    """All that a row's milliseconds depend on, but for the driver."""
    return (*row.encoder, row.dtype, row.batch, row.length, row.live_share, row.speedup)


def parse_table(text: bytes) -> LatencyTable:
    """A table of a file's content. Raises ValueError, TypeError, KeyError or RecursionError on anything else."""
    record = json.loads(text)
    if not isinstance(record, dict) or not isinstance(record["rows"], list):
        raise ValueError("expected an object with a list of rows")
    rows = tuple(map(parse_row, record["rows"]))
    check_complete(rows)
    table = LatencyTable(**record | {"rows": rows})
    if not all(isinstance(field, str) for field in (table.command, table.device, table.date)):
        raise ValueError("command, device or date is no text")
    versions = table.versions
    if not isinstance(versions, dict) or not all(
        isinstance(version, str) for version in versions.values()
    ):
        raise ValueError("versions are missing, or no texts by name")
    return table


def read_table(path: pathlib.Path) -> LatencyTable:
    """Reads a table. Raises ValueError naming the file where it is damaged; OSError where it cannot be read."""
    check_file(path, f"remove it and measure this device again with {MEASURE_COMMAND}")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it has more than {MAX_FILE_BYTES >> 20} MiB")
        return parse_table(path.read_bytes())
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{path} is no latency table or a damaged one ({type(error).__name__}: {excerpt(str(error))}); "
            f"measure this device with {MEASURE_COMMAND}"
        ) from error


def write_table(table: LatencyTable, path: pathlib.Path) -> None:
    """Writes a table, a line a row, whole or not at all."""
    record = dataclasses.asdict(table)
    rows = ",\n  ".join(json.dumps(row) for row in record.pop("rows"))
    head = json.dumps(record, indent=1).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, f'{head},\n "rows": [\n  {rows}\n ]\n}}\n', checksum=True)


def cached_path() -> pathlib.Path:
    """Where this device's table lies under the user's cache directory; the name holds device and versions."""
    parts = (device_name(), *(f"{name} {version}" for name, version in library_versions().items()))
    name = "-".join(re.sub(r"[^a-z0-9.]+", "_", part.lower()).strip("_") for part in parts)
    return user_cache("latency") / f"{name}.json"


def check_origin(table: LatencyTable, source: str) -> None:
    """Raises ValueError where a table was measured on another device or with other versions than these."""
    device, versions = device_name(), library_versions()
    if table.device != device:
        raise ValueError(
            f"{source} was measured on another device: {shown(table.device, 300)}, this one is {device!r}; "
            f"measure it with {MEASURE_COMMAND}, or leave config.inference.autotune_table empty"
        )
    if table.versions != versions:
        raise ValueError(
            f"{source} was measured with other versions: {excerpt(in_words(table.versions))}, here are "
            f"{in_words(versions)}; measure again with {MEASURE_COMMAND}, or leave config.inference.autotune_table empty"
        )


def in_words(versions: dict[str, str]) -> str:
    """Names and versions on a line."""
    return " ".join(f"{name} {version}" for name, version in versions.items())


def find_table(
    autotune_table: LatencyTable | str | os.PathLike | None = None,
) -> LatencyTable | None:
    """The table that decides on this device; None on an accelerator that has none of its own, with a warning.

    Args: autotune_table: a table or the path of one; None or "" for the one measured on this device before, and where
    there is none, on CPUs, the one that comes with the library. A damaged one among those measured before gives a
    warning.
    Raises ValueError where a named table is missing, damaged, or was measured on another device or with other versions.
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
    """Whether programs run on a CPU, the kind of device that the table of the library was measured on."""
    return jax.default_backend() == "cpu"


@functools.cache  # said once a device
def no_table(device: str) -> None:
    """Warns that nothing was measured on this device."""
    warnings.warn(
        f"nothing was measured on {excerpt(device)}, so the bucketed driver runs, padded for models that drop nothing; "
        f"measure the device once with {MEASURE_COMMAND}, or name a driver",
        stacklevel=4,
    )


def named_table(path: pathlib.Path) -> LatencyTable:
    """The table at a path of the user's. Raises ValueError where it does not serve here."""
    try:
        table = read_table(path)
    except OSError as error:
        raise ValueError(
            f"config.inference.autotune_table is {str(path)!r}, which cannot be read ({error.strerror}); make it with "
            f"{MEASURE_COMMAND} --out={path}"
        ) from error
    check_origin(table, str(path))
    return table


def device_table() -> LatencyTable | None:
    """The table measured on this device before; None where there is none, or it does not serve, which is told."""
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
        until = (
            "are chosen by the table that comes with the library"
            if on_cpu()
            else "are not chosen by speed"
        )
        warnings.warn(f"{error}; until then drivers {until}", stacklevel=4)
        return None


@functools.cache
def bundled_table() -> LatencyTable:
    """The table that comes with the library."""
    return read_table(BUNDLED_TABLE)
