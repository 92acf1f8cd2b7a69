"""Measure questions a second, and memory, from a file of questions to windows on disk.

    python -m benchmarks.features [--quick] [--source file:PATH --tokenizer DIR]
        [--num_questions 10000,100000] [--json PATH]

Reads questions, makes windows and stores both. The questions come from a source (JSON lines or
another form of `stream_questions`), repeated to each number, or are made of random words. In the
case `paragraphs` questions share their texts as in the source; each repetition has its own texts.
In the case `distinct` no two questions share a text. Each measurement is a process of its own.
`cpu_s` are the seconds of all threads: on a busy machine compare those. The peak of memory must
not grow with the questions. The peak is measured on Linux only.
"""

import concurrent.futures
import itertools
import json
import multiprocessing
import pathlib
import re
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.data.qa.questions import Question, question_splits, stream_questions
from adapler_jax.data.qa.window_files import store_windows, tee_questions
from adapler_jax.data.qa.windows import iter_windows
from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results
from benchmarks.cold_start import write_tokenizer

SETTINGS = {"max_length": 384, "doc_stride": 128, "max_question_tokens": 64, "max_answers": 1}
CASES = ("paragraphs", "distinct")
VOCAB_SIZE = 5000  # of the made-up tokenizer
NUM_WORDS, NUM_ASKED, QUESTIONS_A_TEXT = 120, 10, 5  # of a made-up text, as SQuAD has them
QUICK = (500, 1000)


def made_up_questions() -> list[Question]:
    """Return a thousand questions of random words, five for each text."""
    rng = np.random.default_rng(0)

    def words(count):
        return " ".join(f"word{number}" for number in rng.integers(VOCAB_SIZE - 10, size=count))

    questions = []
    for number in range(1000):
        if number % QUESTIONS_A_TEXT == 0:
            context = words(NUM_WORDS)
        end = context.index(" ")
        questions.append(
            Question(str(number), words(NUM_ASKED), context, (context[:end],), ((0, end),))
        )
    return questions


def repeat(questions: list[Question], num_questions: int, case: str) -> Iterator[dict]:
    """Yield rows in SQuAD's fields; a number after a text makes it another text."""
    endless = ((turn, question) for turn in itertools.count() for question in questions)
    for number, (turn, question) in enumerate(itertools.islice(endless, num_questions)):
        spans = question.spans
        answers = [
            {"text": question.context[start:end], "answer_start": start} for start, end in spans
        ]
        context = f"{question.context} {turn if case == 'paragraphs' else number}"
        yield {
            "id": str(number),
            "question": question.question,
            "context": context,
            "answers": answers,
        }


def write_rows(path: pathlib.Path, rows: Iterator[dict]) -> pathlib.Path:
    """Write a file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def peak_mib() -> float:
    """Return the most memory this process has used."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measure(source: pathlib.Path, tokenizer: pathlib.Path) -> dict:
    """Return the measured columns of one row, in this process."""
    core = load_core(tokenizer)
    core.encode_batch(["starts its threads", "now"])
    base_mib, start, start_cpu = peak_mib(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        questions = tee_questions(
            stream_questions(f"file:{source}", split="train"), f"{folder}/questions"
        )
        windows = store_windows(iter_windows(questions, core, **SETTINGS), f"{folder}/windows")
        num_questions = int(windows.question[-1]) + 1
        total_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
        return {
            "num_questions": num_questions,
            "num_windows": len(windows),
            "total_s": total_s,
            "cpu_s": cpu_s,
            "questions_per_s": num_questions / total_s,
            "questions_per_cpu_s": num_questions / cpu_s,
            "base_mib": base_mib,
            "peak_mib": peak_mib(),
        }


def measure_apart(*arguments) -> dict:
    """Run `measure` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *arguments).result()


def measure_all(folder: pathlib.Path, options) -> list[dict]:
    """Return a row for each case and number of questions."""
    if options.source:
        split = options.split or question_splits(options.source)[0]
        questions = list(stream_questions(options.source, split=split))
    else:
        questions = made_up_questions()
    tokenizer = pathlib.Path(options.tokenizer or write_tokenizer(folder / "tokenizer", VOCAB_SIZE))
    sizes = QUICK if options.quick else tuple(map(int, options.num_questions))
    rows = []
    for case, num_questions in itertools.product(CASES, sizes):
        source = write_rows(folder / "train.jsonl", repeat(questions, num_questions, case))
        found = measure_apart(source, tokenizer)
        rows.append({"case": case, "source": options.source or "made up", **SETTINGS} | found)
    return rows


def main(options) -> list[dict]:
    """Measure, print and return the rows."""
    with tempfile.TemporaryDirectory(prefix="features-") as scratch:
        rows = measure_all(pathlib.Path(scratch), options)
    write_results(rows, command=module_command("benchmarks.features"), path=options.json)
    return rows


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "few questions")
    flags.DEFINE_string("source", "", "of questions, as file:PATH; empty for made-up ones")
    flags.DEFINE_string("split", "", "of the source; empty for its first")
    flags.DEFINE_string("tokenizer", "", "a folder with a tokenizer; empty for a made-up one")
    flags.DEFINE_list("num_questions", ["10000", "100000"], "sizes to measure")
    flags.DEFINE_string("json", None, "where the rows are written")
    run_command(lambda: main(flags.FLAGS))
