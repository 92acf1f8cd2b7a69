"""Measure what `adapler predict` costs beyond the model, and its memory over many lines.

    python -m benchmarks.predict_files [--quick] [--model DIR --texts FILE] [--sentences 100000]
        [--speedup 2] [--lines 100000,1000000] [--dtypes float32,bfloat16] [--json PATH]

The rows `probabilities` and, over a tenth of the sentences, `kept words` run a model. It is
MiniLM-L6 of random weights that drops tokens to a FLOPs speedup, on random sentences of 5 to 50
words; or a saved model on the lines of a file, repeated. The rows `lines` run a tiny encoder over
as many lines as --lines
says: the peak of memory must not grow with them. Input is text lines, output CSV, batches have 32
  texts, and programs are compiled in advance. Every measurement is a process of its own.
  `model_share` is the fraction of the seconds in which the model runs while other texts are
  tokenized. `bare_s` are the model's seconds alone. The peak is measured on Linux only.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import pathlib
import re
import tempfile
import time

import jax
import numpy as np

from adapler_jax.inference.autotune.workloads import (
    check_names,
    follow_fractions,
    kept_fractions,
    random_batch,
    random_params,
)
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.loading import padded_batch_size
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results
from adapler_jax.serving.pipeline import predict_windows
from adapler_jax.serving.prediction_files import open_writer
from adapler_jax.serving.predictors import ClassPredictor, Shown
from adapler_jax.serving.streams import read_windows
from adapler_jax.types import COMPUTE_DTYPES
from benchmarks.cold_start import write_model
from benchmarks.models import MODELS

BATCH_SIZE, LENGTH = 32, 64
NUM_WORDS = (5, 51)  # of a random sentence: from, below
BARE_TEXTS = 4096  # at most, for the model alone
TINY = dataclasses.replace(MODELS["quick"], num_heads=2, hidden_dim=32, ffn_dim=64)


def write_fast_model(folder: pathlib.Path, config, speedup: float) -> pathlib.Path:
    """Write a model of random weights that drops tokens to about a speedup."""
    folder.mkdir()
    batch = random_batch(config, BATCH_SIZE, NUM_WORDS[1], shortest=NUM_WORDS[0])
    share_N = kept_fractions(config, int(np.mean(NUM_WORDS)), speedup)
    params = follow_fractions(random_params(config), config, batch, share_N)
    return write_model(folder, params, config, LENGTH)


def random_sentences(num_words: int):
    """Yield sentences of words that `write_tokenizer` makes up, without end."""
    rng = np.random.default_rng(0)
    while True:
        yield " ".join(
            f"word{number}" for number in rng.integers(num_words, size=rng.integers(*NUM_WORDS))
        )


def sentences_of(path: pathlib.Path | None, vocab_size: int):
    """Yield the lines of a file, repeatedly; random sentences without a file."""
    if path is None:
        return random_sentences(
            vocab_size - 10
        )  # which are special tokens and cold_start's own words
    return itertools.cycle(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def write_lines(path: pathlib.Path, sentences, num_lines: int) -> pathlib.Path:
    """Write a file of so many of the sentences."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(sentence + "\n" for sentence in itertools.islice(sentences, num_lines))
    return path


def with_clock(classifier: Classifier, seconds: list[float]) -> Classifier:
    """Return the classifier with the seconds of every batch appended to a list."""

    def run(params, batch):
        start = time.perf_counter()
        found = jax.block_until_ready(classifier.run(params, batch))
        seconds.append(time.perf_counter() - start)
        return found

    return dataclasses.replace(classifier, run=run)


def peak_mib() -> float:
    """Return the most memory this process has used."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def bare_seconds(classifier: Classifier, texts: list[str]) -> float:
    """Return the seconds of the model over texts that are tokenized already."""
    tokens = classifier.encode_tokens(texts)
    start = time.perf_counter()
    classifier.predict_probs_encoded(tokens, num_rows=padded_batch_size(len(tokens), BATCH_SIZE))
    return time.perf_counter() - start


def measure(model: pathlib.Path, source: pathlib.Path, *, dtype: str, with_words: bool) -> dict:
    """Return the measured columns of one row, in this process."""
    classifier = Classifier.load(model, dtype=COMPUTE_DTYPES[dtype])
    with source.open(encoding="utf-8") as file:
        texts = [line.rstrip("\n") for line in itertools.islice(file, BARE_TEXTS)]
    classifier.predict_probs(texts[: 16 * BATCH_SIZE], batch_size=BATCH_SIZE)  # compiles
    bare_s, num_bare = bare_seconds(classifier, texts), len(texts)
    del texts
    seconds: list[float] = []
    shown = Shown(with_kept=with_words)
    predictor = ClassPredictor(with_clock(classifier, seconds), batch_size=BATCH_SIZE, shown=shown)
    start = time.perf_counter()
    with (
        source.open("rb") as file,
        open_writer(source.with_suffix(".csv"), "csv", predictor.column_names) as write,
    ):
        num_texts = predict_windows(predictor, read_windows(file, "txt", str(source)), write)
    total_s = time.perf_counter() - start
    return {
        "num_texts": num_texts,
        "total_s": total_s,
        "model_share": sum(seconds) / total_s,
        "bare_s": bare_s * num_texts / num_bare,
        "texts_per_s": num_texts / total_s,
        "peak_mib": peak_mib(),
    }


def measure_apart(*arguments, **options) -> dict:
    """Run `measure` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *arguments, **options).result()


def measure_all(folder: pathlib.Path, options) -> list[dict]:
    """Return a row for each dtype and case, then one for each number of lines."""
    name, config = ("tiny", TINY) if options.quick else ("minilm", MODELS["minilm"])
    model = options.model or write_fast_model(folder / "model", config, options.speedup)
    cases = {"probabilities": options.sentences, "kept words": -(-options.sentences // 10)}
    rows = []
    for dtype, (case, num_lines) in itertools.product(options.dtypes, cases.items()):
        source = write_lines(
            folder / "texts.txt", sentences_of(options.texts, config.vocab_size), num_lines
        )
        found = measure_apart(model, source, dtype=dtype, with_words=case == "kept words")
        rows.append(
            {"case": case, "model": str(options.model or name), "dtype": dtype, "batch": BATCH_SIZE}
            | found
        )
    tiny = write_fast_model(folder / "tiny", TINY, 1.0)
    for num_lines in options.lines:
        source = write_lines(folder / "texts.txt", sentences_of(None, TINY.vocab_size), num_lines)
        found = measure_apart(tiny, source, dtype="float32", with_words=False)
        rows.append(
            {"case": "lines", "model": "tiny", "dtype": "float32", "batch": BATCH_SIZE} | found
        )
    return rows


def parse_arguments(arguments) -> argparse.Namespace:
    """Return the command line; exit on a mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the tiny encoder and few texts")
    parser.add_argument("--model", type=pathlib.Path, help="a saved model; with --texts")
    parser.add_argument(
        "--texts", type=pathlib.Path, help="a file of text lines for --model, repeated as needed"
    )
    parser.add_argument("--sentences", type=int, default=100_000)
    parser.add_argument("--lines", default="100000,1000000", help="of the tiny model")
    parser.add_argument("--dtypes", default=",".join(COMPUTE_DTYPES))
    parser.add_argument("--speedup", type=float, default=2.0, help="in FLOPs, of the random model")
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sentences, options.lines, options.dtypes = 1200, "1200,2400", "float32"
    if (options.model is None) != (options.texts is None):
        parser.error("--model and --texts go together")
    try:
        options.lines = [int(count) for count in options.lines.split(",")]
        options.dtypes = options.dtypes.split(",")
        check_names(options.dtypes, COMPUTE_DTYPES, "dtype")
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments=None) -> list[dict]:
    """Measure, print and return the rows."""
    options = parse_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="predict-files-") as scratch:
        rows = measure_all(pathlib.Path(scratch), options)
    write_results(rows, command=module_command("benchmarks.predict_files"), path=options.json)
    return rows


if __name__ == "__main__":
    main()
