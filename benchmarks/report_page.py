"""Measure how large a run's report is, and how soon a browser shows its first text.

    python -m benchmarks.report_page --workdir=RUN [--model adapt-2x] [--examples 10000]
        [--rounds 5] [--json PATH]

Writes the page of `adapler report` into a scratch folder. A headless Chromium without a network
opens it, in a fresh context every round. `first_text_s` is the time from the call to the first
drawn text, `load_s` to the page's load event. Needs a Chromium (apt-get install chromium) and
playwright of requirements-baselines.txt.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results
from adapler_jax.report.page import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Chromium's sandbox does not start as root, as in containers; the page is ours.
CHROMIUM_ARGUMENTS = ["--no-sandbox"]
FIRST_TEXT, NUM_EXAMPLES = (
    "#examples .text",
    "JSON.parse(document.getElementById('meta').textContent).label.length",
)


def open_page(browser, address: str) -> dict:
    """Return the seconds to the first drawn text and to the load event, in a fresh context."""
    context = browser.new_context(offline=True)
    tab = context.new_page()
    start = time.perf_counter()
    tab.goto(address, wait_until="commit")
    tab.wait_for_selector(FIRST_TEXT)
    first_text_s = time.perf_counter() - start
    tab.wait_for_load_state("load")
    load_s = time.perf_counter() - start
    examples = tab.evaluate(NUM_EXAMPLES)
    context.close()
    return {"examples": examples, "first_text_s": first_text_s, "load_s": load_s}


def measure(page: pathlib.Path, rounds: int) -> dict:
    """Return the page's size, and medians over the rounds after one that warms the browser up."""
    from playwright.sync_api import sync_playwright  # of requirements-baselines.txt

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        found = [open_page(browser, page.as_uri()) for _ in range(rounds + 1)][1:]
        version = browser.version
        browser.close()
    medians = {name: statistics.median(row[name] for row in found) for name in found[0]}
    return (
        {"megabytes": page.stat().st_size / 1e6} | medians | {"chromium": version, "rounds": found}
    )


def main(arguments=None) -> list[dict]:
    """Measure, print and return the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="a run with a model that drops tokens")
    parser.add_argument("--model", help="whose words are followed; the fastest by default")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="where the row is written")
    options = parser.parse_args(arguments)
    if options.examples < 1 or options.rounds < 1:
        parser.error("--examples and --rounds are 1 or more")
    if CHROMIUM is None:
        parser.error("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="report-page-") as scratch:
        start = time.perf_counter()
        page = write_report(
            options.workdir,
            pathlib.Path(scratch) / "report.html",
            num_examples=options.examples,
            model=options.model,
            log=lambda line: print(line, file=sys.stderr),
        )
        row = {"written_s": time.perf_counter() - start} | measure(page, options.rounds)
    write_results(
        [row],
        command=module_command("benchmarks.report_page"),
        path=options.json,
        columns=[name for name in row if name != "rounds"],
    )
    return [row]


if __name__ == "__main__":
    main()
