"""Measure which driver is fastest on this device.

    adapler latency [--model=DIR] [--quick]

Models that are loaded with driver "auto" choose their driver by these measurements. Weights are
random; seconds depend on the number of kept tokens alone. The fast drivers run in turns on texts of
half to the full length, at several FLOPs speedups, and as plain BERT on full batches too. Each
bucket is measured with full batches of its length.

The table is in the user's cache directory, named by the device and the library versions, or at
--out. Earlier rows stay unless they are measured again; --fresh drops them. The machine should run
nothing else. --model measures a model's own sizes; --quick takes a few minutes.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from adapler_jax.cli.console import run_command, typed_command
from adapler_jax.inference.autotune.run import Workload, measure_device
from adapler_jax.inference.autotune.table import cached_path
from adapler_jax.inference.autotune.workloads import SHAPES, SPEEDUPS, check_names, parse_case
from adapler_jax.io.provenance import command_line
from adapler_jax.io.terminal import print_note
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import read_config
from adapler_jax.weights.hub import resolve_model

DTYPES = ("float32", "bfloat16")
CASES = ("1x32", "1x128", "1x512", "8x128", "32x32", "32x128", "32x256")
QUICK_SHAPES = ("minilm",)
QUICK_CASES = ("1x128", "32x128")
QUICK_ROUNDS = 3
QUICK_SPEEDUPS = (1.0, 3.3)

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model", None, "directory or hub name of a BERT whose sizes are measured", flag_values=FLAGS
)
_SHAPES = flags.DEFINE_list(
    "shapes", list(SHAPES), f"encoder sizes, of {', '.join(SHAPES)}", flag_values=FLAGS
)
_DTYPES = flags.DEFINE_list(
    "dtypes", list(DTYPES), "operands of the encoder's products", flag_values=FLAGS
)
_CASES = flags.DEFINE_list("cases", list(CASES), "batch size x length", flag_values=FLAGS)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "timings of each call; their median counts", flag_values=FLAGS
)
_QUICK = flags.DEFINE_bool("quick", False, "few cases and rounds: coarse", flag_values=FLAGS)
_FRESH = flags.DEFINE_bool("fresh", False, "drop the earlier measurements", flag_values=FLAGS)
_OUT = flags.DEFINE_string(
    "out", None, "path of the table; default: in the user's cache", flag_values=FLAGS
)


def parse_workload() -> Workload:
    """Return the workload that the flags describe.

    Raises:
      ValueError: a flag has an unknown name or a wrong number.
    """
    quick = _QUICK.value
    num_rounds = QUICK_ROUNDS if quick else _ROUNDS.value
    if num_rounds < 1:
        raise ValueError(f"--rounds is {num_rounds}; expected 1 or more")
    cases = QUICK_CASES if quick else _CASES.value
    check_names(_DTYPES.value, DTYPES, "dtype")
    return Workload(
        configs=_encoder_configs(QUICK_SHAPES if quick else _SHAPES.value),
        dtypes=_DTYPES.value,
        cases=[parse_case(case) for case in cases],
        speedups=QUICK_SPEEDUPS if quick else SPEEDUPS,
        num_rounds=num_rounds,
    )


def _encoder_configs(shapes: Sequence[str]) -> list[EncoderConfig]:
    """Return the sizes to measure: the model's, or the named shapes."""
    check_names(shapes, SHAPES, "shape")
    if _MODEL.value:
        return [read_config(resolve_model(_MODEL.value))[0]]
    return [SHAPES[name] for name in shapes]


def main() -> None:
    """Measure the drivers and write the table."""
    measure_device(
        parse_workload(),
        pathlib.Path(_OUT.value) if _OUT.value else cached_path(),
        command=command_line(typed_command()),
        keep_earlier=not _FRESH.value,
        log=print_note,
    )


def run(*, resumes: bool) -> None:
    """Parse the command line and measure."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
