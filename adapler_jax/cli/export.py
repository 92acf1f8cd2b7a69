"""Compile a saved model ahead of time.

    adapler export --model=DIR

Writes the programs of a classification model into its folder, for CPUs, CUDA and TPUs. Serving
processes then load the programs in place of tracing the model: Classifier.load(DIR, programs=True).
"""

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.export.jax_export import STAGED_DRIVERS, export_model
from adapler_jax.inference.engine import AUTO
from adapler_jax.io.terminal import one_line
from adapler_jax.types import COMPUTE_DTYPES

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model", None, "directory of a saved model", required=True, flag_values=FLAGS
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    COMPUTE_DTYPES,
    "operands of the encoder's products",
    flag_values=FLAGS,
)
_DRIVER = flags.DEFINE_enum(
    "driver",
    AUTO,
    [AUTO, *STAGED_DRIVERS],
    "how tokens are dropped; auto: programs of every fast driver",
    flag_values=FLAGS,
)
_BUCKETS = flags.DEFINE_list(
    "buckets",
    [],
    "numbers of tokens that layers are padded to, as 32,64,128; default: by the model's length",
    flag_values=FLAGS,
)


def parse_buckets(words: list[str]) -> tuple[int, ...] | None:
    """Return buckets as numbers; None without buckets.

    Raises:
      ValueError: a word is no whole number.
    """
    if not all(word.strip().isdecimal() for word in words):
        raise ValueError(f"--buckets is {','.join(words)}; expected whole numbers, as 32,64,128")
    return tuple(map(int, words)) or None


def main() -> None:
    """Write the programs and print their paths."""
    paths = export_model(
        _MODEL.value,
        buckets=parse_buckets(_BUCKETS.value),
        dtype=_DTYPE.value,
        driver=_DRIVER.value,
    )
    for path in paths:
        print(one_line(f"{path}: {path.stat().st_size / 1e6:.1f} MB"))


def run(*, resumes: bool) -> None:
    """Parse the command line and export."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
