"""Choose the dtype of a model's products: bfloat16 if the device is faster and predictions agree.

`compare_dtypes` runs a model with both dtypes on validation texts, and keeps the result in its
directory. A load with dtype="auto" needs that record, and the latency table of this device or,
without one, the flags of its processor.

Shape letters:

    X classes, token slots or options, and further axes
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.heads import Head
from adapler_jax.inference.autotune.table import (
    LatencyTable,
    TableSource,
    bundled_table,
    case_of,
    find_table,
)
from adapler_jax.inference.engine import make_engine, prepare_params_for
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.messages import excerpt
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, compute_dtype
from adapler_jax.weights.save import Saved

AUTO = "auto"
OPERANDS_FILE = "operands.json"
MIN_SAME = 0.99  # fraction of the rows whose prediction must be the same
MIN_ROWS = 200  # fewer rows cannot show a fraction so near to 1
CHECKSUM = "sha256"  # field of the record, of its other fields
CPU_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}  # flags of x86 and of ARM processors
MIN_CAPABILITY = 8.0  # of NVIDIA's GPUs
CPU_INFO = pathlib.Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Predictions with bfloat16 operands compared with float32; the fields are keys of the file."""

    num_rows: int
    same_share: float  # fraction of the rows with the same likeliest class or slots
    largest_difference: float  # of a probability
    weights: str  # `fingerprint` of the model

    @property
    def agrees(self) -> bool:
        """Return True if bfloat16 is good enough for the model."""
        return self.is_enough and self.same_share >= MIN_SAME

    @property
    def is_enough(self) -> bool:
        """Return True if enough rows were compared to judge by."""
        return self.num_rows >= MIN_ROWS


def fingerprint(saved: Saved) -> str:
    """Return a hash of the model's small tensors; training or pruning changes it."""
    encoder = saved.params["encoder"]
    layers = {name: encoder["layers"][name] for name in ("attention_norm", "ffn_norm")}
    small = {"head": saved.params["head"], "pruner": saved.params["pruner"], "layers": layers}
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(small):
        digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def compare_dtypes(saved: Saved, batches: Iterable[Batch], **engine) -> Agreement:
    """Run a model with float32 and with bfloat16 operands, and keep the result in its directory.

    Args:
      saved: the model.
      batches: labels are not used.
      **engine: keywords of `make_engine`; dtype and head have no effect.

    Returns:
      The comparison.

    Raises:
      ValueError: there is no example.
      OSError: the model's directory cannot be written.
    """
    runs = [_make_run(saved, dtype, engine) for dtype in ("float32", "bfloat16")]
    same, largest = [], 0.0
    for batch in batches:
        is_real_B = np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID
        exact, fast = (probabilities(saved.head, run(params, batch)[0]) for run, params in runs)
        same_B, difference = _compare(exact, fast, is_real_B)
        same.append(same_B[is_real_B])
        largest = max(largest, difference)
    num_rows = sum(map(len, same))
    if not num_rows:
        raise ValueError(
            "there are no examples to compare operands on; give a split with at least one"
        )
    found = Agreement(num_rows, float(np.concatenate(same).mean()), largest, fingerprint(saved))
    write_agreement(saved.directory / OPERANDS_FILE, found)
    return found


def _make_run(saved: Saved, dtype: str, engine: dict[str, Any]) -> tuple:
    """Return an engine of a model with these operands, and its parameters."""
    options = {name: value for name, value in engine.items() if name not in ("dtype", "head")}
    pruner = pruner_of_saved(saved)
    run = make_engine(saved.config, pruner, dtype=dtype, head=saved.head, **options)
    driver = options.get("driver", AUTO)
    return run, prepare_params_for(driver, saved.params, saved.config, dtype)


def _compare(exact: Any, fast: Any, is_real_B: np.ndarray) -> tuple[np.ndarray, float]:
    """Compare the probabilities of a batch.

    Args:
      exact: arrays of probabilities, the classes or slots along axis 1.
      fast: the same arrays with other operands.
      is_real_B: bool, False for padding examples.

    Returns:
      bool [B], True where the likeliest classes or slots are the same and all probabilities are
      numbers; and the largest difference of a probability.
    """
    same_B, largest = np.ones(len(is_real_B), bool), 0.0
    for first, second in zip(jax.tree.leaves(exact), jax.tree.leaves(fast), strict=True):
        is_same = np.argmax(first, axis=1) == np.argmax(second, axis=1)
        is_number = np.isfinite(first + second)
        same_B &= is_same.reshape(len(first), -1).all(axis=1)
        same_B &= is_number.reshape(len(first), -1).all(axis=1)
        difference = np.nan_to_num(np.abs(first - second)[is_real_B], nan=1.0)
        largest = max(largest, float(np.max(difference, initial=0.0)))
    return same_B, largest


def probabilities(head: Head, logits: Any) -> Any:
    """Return the softmax of the logits over axis 1 of each array; of options, over a question's."""
    num_options = dict(head.factory_kwargs).get("num_options", 1)

    def softmax(logits_BX):
        logits_BX = np.asarray(logits_BX, np.float64)
        if num_options > 1 and logits_BX.shape[1] == 1:
            logits_BX = np.repeat(logits_BX.reshape(-1, num_options), num_options, axis=0)
        exp_BX = np.exp(logits_BX - logits_BX.max(axis=1, keepdims=True))
        return exp_BX / exp_BX.sum(axis=1, keepdims=True)

    return jax.tree.map(softmax, logits)


def write_agreement(path: pathlib.Path, found: Agreement) -> None:
    """Write the result of `compare_dtypes`, with a checksum."""
    record = dataclasses.asdict(found)
    text = json.dumps(record | {CHECKSUM: checksum_of(record)}, indent=1) + "\n"
    replace_text(path, text)


def read_agreement(saved: Saved) -> Agreement | None:
    """Return the result of `compare_dtypes` for this model.

    None if there is none, if the weights have changed since, or, with a warning, if the file is
    damaged.
    """
    path = saved.directory / OPERANDS_FILE
    try:
        found = _parse_agreement(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        warnings.warn(
            f"{path} is not used ({excerpt(str(error))}); evaluate the run again, or remove it",
            stacklevel=6,
        )
        return None
    return found if found.weights == fingerprint(saved) else None


def _parse_agreement(record: Any) -> Agreement:
    """Return the record of a file; raise ValueError or TypeError if it is damaged."""
    checksum = record.pop(CHECKSUM, None) if isinstance(record, dict) else None
    found = Agreement(**record)
    if checksum != checksum_of(record):
        raise ValueError(f"{CHECKSUM} does not fit its other fields")
    if type(found.num_rows) is not int or not 0.0 <= found.same_share <= 1.0:
        raise ValueError(f"num_rows {found.num_rows!r}, same_share {found.same_share!r}")
    return found


def checksum_of(record: dict) -> str:
    """Return a hash of the fields of a record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def describe_agreement(found: dict[str, Agreement], split: str | None) -> list[str]:
    """Describe comparisons, a line for all models with the same verdict.

    Args:
      found: comparison by name of the model.
      split: name of the split that was compared on.
    """
    verdicts = {
        (True, True): "bfloat16 operands predict the same in {fraction} of {rows}",
        (True, False): "bfloat16 operands predict the same in {fraction} of {rows}",
        (False, False): "{rows} are too few to judge bfloat16 operands by (at least {min_rows})",
    }
    lines = []
    for (is_enough, agrees), text in verdicts.items():
        models = {
            name: one
            for name, one in found.items()
            if (one.is_enough, one.agrees) == (is_enough, agrees)
        }
        if models:
            fractions = sorted(one.same_share for one in models.values())
            bounds = dict.fromkeys(f"{value:.1%}" for value in (fractions[0], fractions[-1]))
            num_rows = min(one.num_rows for one in models.values())
            reason = text.format(
                fraction=" to ".join(bounds), rows=f"{num_rows} rows of {split}", min_rows=MIN_ROWS
            )
            dtype = "bfloat16" if agrees else "float32"
            lines.append(f'{", ".join(models)}: {reason}, so dtype="auto" takes {dtype}')
    return lines


def choose_dtype(dtype: DTypeLike, saved: Saved, autotune_table: TableSource = None) -> DTypeLike:
    """Return the dtype of the products' operands for a load.

    Args:
      dtype: a dtype, or "auto": bfloat16 if the device is faster with it and `compare_dtypes`
        found that the model's predictions agree, else float32.
      saved: the model.
      autotune_table: as in `find_table`.

    Raises:
      ValueError: dtype is no dtype of the encoder's products.
    """
    if not isinstance(dtype, str) or dtype != AUTO:
        return compute_dtype(dtype)
    found = read_agreement(saved)
    is_bfloat16 = found is not None and found.agrees and is_faster(find_table(autotune_table))
    return compute_dtype("bfloat16" if is_bfloat16 else "float32")


def is_faster(table: LatencyTable | None) -> bool:
    """Return True if this device is faster with bfloat16.

    Args:
      table: measured on this device; the library's own and None count as none. Without one, the
        units of the processor decide.
    """
    ratio = None if table is None or table is bundled_table() else time_ratio(table)
    return has_units() if ratio is None else ratio < 1.0


def time_ratio(table: LatencyTable) -> float | None:
    """Return the milliseconds with bfloat16 over the milliseconds with float32.

    It is the geometric mean over all cases that have both; None without such a case.
    """
    fast, exact = _ms_by_case(table, "bfloat16"), _ms_by_case(table, "float32")
    logs = [math.log(fast[case] / exact[case]) for case in fast.keys() & exact.keys()]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def _ms_by_case(table: LatencyTable, dtype: str) -> dict[tuple, float]:
    """Return the milliseconds with a dtype, by driver and case."""
    rows = [row for row in table.rows if row.dtype == dtype]
    return {(row.what, case_of(dataclasses.replace(row, dtype=""))): row.ms for row in rows}


def has_units() -> bool:
    """Return True if the processor reports units for bfloat16."""
    device = jax.devices()[0]
    if device.platform == "tpu":
        return True
    if device.platform in ("gpu", "cuda"):
        try:
            return float(getattr(device, "compute_capability", 0.0)) >= MIN_CAPABILITY
        except ValueError:  # AMD's capabilities are names
            return False
    return not CPU_UNITS.isdisjoint(_cpu_flags())


def _cpu_flags() -> list[str]:
    """Return the flags of the first processor; empty where the system has no list."""
    if not CPU_INFO.exists():
        return []
    for line in CPU_INFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return value.split()
    return []
