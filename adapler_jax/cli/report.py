"""Write the report of a run: python -m adapler_jax.cli.report --workdir=W

One HTML page, W/report.html by default, that opens anywhere without a network: scores, speedups, curves, and test texts
with every word shaded by the layer at which it left. A model that was not evaluated is named in the page.
"""

from adapler_jax.io import process

if __name__ == "__main__":
    process.begin()  # before imports that take seconds

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.io.messages import one_line
from adapler_jax.io.terminal import print_note
from adapler_jax.report.page import write_report

_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
_OUTPUT = flags.DEFINE_string("output", None, "the page; W/report.html by default")
_EXAMPLES = flags.DEFINE_integer(
    "examples", 1000, "test texts to look at; 0 for a page without texts", lower_bound=0
)
_MODEL = flags.DEFINE_string(
    "model", None, "whose words are followed, as adapt-2x; the fastest by default"
)
_METHODS = flags.DEFINE_string(
    "methods", None, "record of benchmarks.methods whose curves are drawn too"
)


def main():
    """Writes the page and tells where."""
    path = write_report(
        _WORKDIR.value,
        _OUTPUT.value,
        num_examples=_EXAMPLES.value,
        model=_MODEL.value,
        methods=_METHODS.value,
        log=print_note,
    )
    print(one_line(f"{path}: {path.stat().st_size / 1e6:.1f} MB"))


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    run_command(main)
