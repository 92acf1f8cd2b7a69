"""Write the report of a run.

    adapler report --workdir=W

The report is one HTML page, W/report.html by default, that opens anywhere without a network. It has
scores, speedups, curves, and test texts with every word shaded by the layer that drops it. A model
that is not evaluated yet is named in the page.
"""

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.io.messages import one_line
from adapler_jax.io.terminal import print_note
from adapler_jax.report.page import write_report

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "directory of the run", required=True, flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "path of the page; default: W/report.html", flag_values=FLAGS
)
_EXAMPLES = flags.DEFINE_integer(
    "examples", 1000, "test texts on the page; 0: none", lower_bound=0, flag_values=FLAGS
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "model whose words are shaded, as adapt-2x; default: the fastest",
    flag_values=FLAGS,
)
_METHODS = flags.DEFINE_string(
    "methods",
    None,
    "results of benchmarks.methods whose curves are drawn too",
    flag_values=FLAGS,
)


def main() -> None:
    """Write the page and print its path and size."""
    path = write_report(
        _WORKDIR.value,
        _OUTPUT.value,
        num_examples=_EXAMPLES.value,
        model=_MODEL.value,
        methods=_METHODS.value,
        log=print_note,
    )
    print(one_line(f"{path}: {path.stat().st_size / 1e6:.1f} MB"))


def run(*, resumes: bool) -> None:
    """Parse the command line and write the page."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
