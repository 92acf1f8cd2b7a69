"""Measure the seconds from the start of a Python process to its first prediction.

    python -m benchmarks.cold_start [--quick] [--models minilm,base] [--length 128] [--rounds 5]
        [--json PATH]

Weights are random. There are three cases. `nothing kept` has an empty compilation cache.
`compiled` finds what an earlier process compiled. `exported` also runs a program that
`export_model` wrote into the model's folder. Every timing is a process of its own: it imports,
loads the model and classifies one text. Python's bytecode exists already, as in any installation.
Values are medians.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from adapler_jax.export.jax_export import export_model
from adapler_jax.inference.autotune.workloads import random_params
from adapler_jax.io.caches import VARIABLE
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import save_model
from benchmarks.models import MODELS

# A user's process; its times use the parent's clock.
PROCESS = """
import json, sys, time
start_s, directory, programs = float(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import Engine
imported_s = time.time()
classifier = Classifier.load(directory, programs=programs)
loaded_s = time.time()
classifier.predict(["a gripping, funny film"])
end_s = time.time()
print(json.dumps({
    "total_s": end_s - start_s, "import_s": imported_s - start_s, "load_s": loaded_s - imported_s,
    "answer_s": end_s - loaded_s, "is_exported": not isinstance(classifier.run, Engine),
}))
"""
PARTS = ("total_s", "import_s", "load_s", "answer_s")


def write_tokenizer(folder: pathlib.Path, vocab_size: int) -> pathlib.Path:
    """Write a BERT tokenizer with as many made-up words as a model's vocabulary has."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *"a gripping , funny film".split()]
    words += [f"word{number}" for number in range(vocab_size - len(words))]
    vocab = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    folder.mkdir()
    core.save(str(folder / "tokenizer.json"))
    return folder


def write_model(folder: pathlib.Path, params, config: EncoderConfig, length: int) -> pathlib.Path:
    """Write a model directory with the tokenizer of `write_tokenizer`."""
    tokenizer = write_tokenizer(folder / "tokenizer", config.vocab_size)
    return save_model(
        folder / "model",
        params,
        config,
        pruner_name="adapler",
        max_length=length,
        tokenizer=tokenizer,
    )


def environment(folder: pathlib.Path, cache: pathlib.Path) -> dict[str, str]:
    """Return a user's environment, with the location of the caches alone set."""
    removed = (VARIABLE, "JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return kept | {"XDG_CACHE_HOME": str(cache), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def first_answer(
    model: pathlib.Path, env: dict[str, str], *, is_exported: bool = False
) -> dict[str, float]:
    """Return the seconds of one fresh process and of its parts.

    Raises:
      RuntimeError: the process fails, or does not run the exported program that it should run.
    """
    command = [sys.executable, "-c", PROCESS, str(time.time()), str(model), str(is_exported)]
    root = pathlib.Path(__file__).parents[1]
    process = subprocess.run(
        command, env=env, cwd=root, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(f"the process ended with {process.returncode}: {process.stderr}")
    found = json.loads(process.stdout)
    if found.pop("is_exported") != is_exported:
        raise RuntimeError(
            f"the exported program was {'not ' if is_exported else ''}used: {process.stderr}"
        )
    return found


def measure(name: str, length: int, num_rounds: int) -> list[dict]:
    """Return a row for each case."""
    with tempfile.TemporaryDirectory(prefix="cold-start-") as scratch:
        folder = pathlib.Path(scratch)
        model = write_model(folder, random_params(MODELS[name]), MODELS[name], length)
        first_answer(model, environment(folder, folder / "unused"))  # leaves bytecode
        timings = {"nothing kept": [first_answer(model, environment(folder, folder / "cache"))]}
        timings["compiled"] = [
            first_answer(model, environment(folder, folder / "cache")) for _ in range(num_rounds)
        ]
        start = time.perf_counter()
        size = sum(path.stat().st_size for path in export_model(model))
        export_s = time.perf_counter() - start
        exported = functools.partial(
            first_answer, model, environment(folder, folder / "cache"), is_exported=True
        )
        exported()  # leaves compiled programs
        timings["exported"] = [exported() for _ in range(num_rounds)]
    return [
        {"model": name, "length": length, "case": case}
        | {part: statistics.median(timing[part] for timing in found) for part in PARTS}
        | {"total_s_min": min(timing["total_s"] for timing in found)}
        | {"total_s_max": max(timing["total_s"] for timing in found), "num_timings": len(found)}
        | ({"export_s": export_s, "program_kib": size / 1024} if case == "exported" else {})
        for case, found in timings.items()
    ]


def main(arguments=None) -> list[dict]:
    """Measure, print and return the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small encoder and length, two rounds"
    )
    parser.add_argument("--models", default="minilm,base")
    parser.add_argument("--length", type=int, default=128, help="token slots of the models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.quick:
        options.models, options.length, options.rounds = "quick", 8, 2
    rows = [
        row
        for name in options.models.split(",")
        for row in measure(name, options.length, options.rounds)
    ]
    write_results(rows, command=module_command("benchmarks.cold_start"), path=options.json)
    return rows


if __name__ == "__main__":
    main()
