"""Which operands a model's products take: bfloat16 where the device is faster with it and the model's answers agree.

`compare_dtypes` runs a model with both on validation texts and keeps what it found in its folder; a load with
dtype="auto" asks that record, and the latency table of this device or, without one, what its processor says of itself.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import warnings
from collections.abc import Iterable

import jax
import numpy as np

from adapler_jax.heads import Head
from adapler_jax.inference.autotune.table import (
    LatencyTable,
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
MIN_SAME = 0.99  # share of the rows whose answer must be the same
MIN_ROWS = 200  # fewer show no share as near to 1
CHECKSUM = "sha256"  # field of the record, of its other fields
CPU_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}  # flags of x86 processors, and of ARM's
MIN_CAPABILITY = 8.0  # of NVIDIA's GPUs
CPU_INFO = pathlib.Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How a model answers with bfloat16 operands, compared with float32."""

    num_rows: int
    same_share: float  # of the rows, the likeliest answers
    largest_difference: float  # of a probability
    weights: str  # `fingerprint` of the model

    @property
    def agrees(self) -> bool:
        """Whether bfloat16 may be taken for the model."""
        return self.is_enough and self.same_share >= MIN_SAME

    @property
    def is_enough(self) -> bool:
        """Whether so many rows were compared that their share says something."""
        return self.num_rows >= MIN_ROWS


def fingerprint(saved: Saved) -> str:
    """A hash of the model's small tensors: another training or pruning has another one."""
    encoder = saved.params["encoder"]
    layers = {name: encoder["layers"][name] for name in ("attention_norm", "ffn_norm")}
    small = {"head": saved.params["head"], "pruner": saved.params["pruner"], "layers": layers}
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(small):
        digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def compare_dtypes(saved: Saved, batches: Iterable[Batch], **engine) -> Agreement:
    """Runs a model over batches with float32 and with bfloat16 operands, and keeps the result in its folder.

    Args: engine: keywords of `make_engine`; dtype and head are not read. Raises ValueError where there is no example,
    OSError where the model's folder cannot be written.
    """
    pruner, runs = pruner_of_saved(saved), []
    engine = {name: value for name, value in engine.items() if name not in ("dtype", "head")}
    for dtype in ("float32", "bfloat16"):
        run = make_engine(saved.config, pruner, dtype=dtype, head=saved.head, **engine)
        params = prepare_params_for(engine.get("driver", AUTO), saved.params, saved.config, dtype)
        runs.append((run, params))
    same, largest = [], 0.0
    for batch in batches:
        real_B = np.asarray(batch.example_id_B) != PADDING_EXAMPLE_ID
        exact, fast = (probabilities(saved.head, run(params, batch)[0]) for run, params in runs)
        pairs = list(zip(jax.tree.leaves(exact), jax.tree.leaves(fast), strict=True))
        same_B = np.all(
            [np.argmax(a, 1) == np.argmax(b, 1) for a, b in pairs if a.ndim == 2], axis=0
        )
        for a, b in pairs:
            if a.ndim == 3:
                same_B = same_B & np.all(np.argmax(a, 1) == np.argmax(b, 1), axis=-1)
            is_number_B = np.isfinite(a + b).reshape(len(a), -1).all(axis=1)
            same_B = same_B & is_number_B
            difference = np.nan_to_num(np.abs(a - b)[real_B], nan=1.0)
            largest = max(largest, float(np.max(difference, initial=0.0)))
        same.append(np.broadcast_to(same_B, real_B.shape)[real_B])
    num_rows = sum(map(len, same))
    if not num_rows:
        raise ValueError(
            "there are no examples to compare operands on; give a split with at least one"
        )
    found = Agreement(num_rows, float(np.concatenate(same).mean()), largest, fingerprint(saved))
    write_agreement(saved.directory / OPERANDS_FILE, found)
    return found


def write_agreement(path: pathlib.Path, found: Agreement) -> None:
    """Write what `compare_dtypes` found, with a checksum."""
    record = dataclasses.asdict(found)
    text = json.dumps(record | {CHECKSUM: checksum_of(record)}, indent=1) + "\n"
    replace_text(path, text)


def checksum_of(record: dict) -> str:
    """Return a hash of the fields of a record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def describe_agreement(found: dict[str, Agreement], split: str) -> list[str]:
    """Return what the comparisons of models by name say, a line for all models of one verdict."""
    lines = []
    for is_enough, agrees in ((True, True), (True, False), (False, False)):
        group = {
            name: one
            for name, one in found.items()
            if (one.is_enough, one.agrees) == (is_enough, agrees)
        }
        if not group:
            continue
        rows = f"{min(one.num_rows for one in group.values())} rows of {split}"
        shares = sorted(one.same_share for one in group.values())
        share = " to ".join(dict.fromkeys(f"{share:.1%}" for share in (shares[0], shares[-1])))
        verdict = f'dtype="auto" takes {"bfloat16" if agrees else "float32"}'
        what = f"bfloat16 operands answer alike in {share} of {rows}"
        if not is_enough:
            what = f"{rows} are too few to judge bfloat16 operands by (at least {MIN_ROWS})"
        lines.append(f"{', '.join(group)}: {what}, so {verdict}")
    return lines


def probabilities(head: Head, logits):
    """Softmax of the logits over the answers of a row, axis 1 of every array; of options, over those of a question."""
    group = dict(head.factory_kwargs).get("num_options", 1)

    def of_rows(logits_BX):
        logits_BX = np.asarray(logits_BX, np.float64)
        if group > 1 and logits_BX.shape[1] == 1:
            logits_BX = np.repeat(logits_BX.reshape(-1, group), group, axis=0)
        power_BX = np.exp(logits_BX - logits_BX.max(axis=1, keepdims=True))
        return power_BX / power_BX.sum(axis=1, keepdims=True)

    return jax.tree.map(of_rows, logits)


def read_agreement(saved: Saved) -> Agreement | None:
    """What `compare_dtypes` found of this model; None where it was not asked or the weights changed since, and, with a
    warning, where the file is damaged."""
    path = saved.directory / OPERANDS_FILE
    try:
        record = json.loads(path.read_bytes())
        checksum = record.pop(CHECKSUM, None) if isinstance(record, dict) else None
        found = Agreement(**record)
        if checksum != checksum_of(record):
            raise ValueError(f"{CHECKSUM} is not that of its other fields")
        if type(found.num_rows) is not int or not 0.0 <= found.same_share <= 1.0:
            raise ValueError(f"num_rows {found.num_rows!r}, same_share {found.same_share!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        warnings.warn(
            f"{path} is not used ({excerpt(str(error))}); evaluate the run again, or remove it",
            stacklevel=6,
        )
        return None
    return found if found.weights == fingerprint(saved) else None


def choose_dtype(dtype, saved: Saved, autotune_table: LatencyTable | str | None = None):
    """The dtype of the products' operands for a load; "auto" is bfloat16 where the device is faster with it and
    `compare_dtypes` found that the model's answers agree, else float32. Raises ValueError on what is no dtype."""
    if not isinstance(dtype, str) or dtype != AUTO:
        return compute_dtype(dtype)
    found = read_agreement(saved)
    is_bfloat16 = found is not None and found.agrees and is_faster(find_table(autotune_table))
    return compute_dtype("bfloat16" if is_bfloat16 else "float32")


def is_faster(table: LatencyTable | None) -> bool:
    """Whether this device is faster with bfloat16: by a table that was measured on it, or else by its units."""
    ratio = None if table is None or table is bundled_table() else time_ratio(table)
    return has_units() if ratio is None else ratio < 1.0


def time_ratio(table: LatencyTable) -> float | None:
    """Return the milliseconds with bfloat16 over those with float32.

    It is the geometric mean over all cases that have both; None without such a case.
    """

    def by_case(dtype):
        rows = [row for row in table.rows if row.dtype == dtype]
        return {(row.what, case_of(dataclasses.replace(row, dtype=""))): row.ms for row in rows}

    fast, exact = by_case("bfloat16"), by_case("float32")
    logs = [math.log(fast[case] / exact[case]) for case in fast.keys() & exact.keys()]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def has_units() -> bool:
    """Whether the processor has units for bfloat16, as far as it tells."""
    device = jax.devices()[0]
    if device.platform == "tpu":
        return True
    if device.platform in ("gpu", "cuda"):
        try:
            return float(getattr(device, "compute_capability", 0.0)) >= MIN_CAPABILITY
        except ValueError:  # AMD's have names
            return False
    if not CPU_INFO.exists():
        return False
    lines = [line.partition(":") for line in CPU_INFO.read_text().splitlines()]
    flags = [value.split() for name, _, value in lines if name.strip() in ("flags", "Features")]
    return bool(flags) and not CPU_UNITS.isdisjoint(flags[0])
