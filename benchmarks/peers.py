"""Run the same sentences through torch, ONNX Runtime and OpenVINO, dense, and through our drivers.

    python -m benchmarks.peers --workdir=RUN [--models adapler,adapt-3x] [--batch-sizes 1,32]
        [--json PATH]
    python -m benchmarks.peers --shape=base --length=128 [--peers torch] [--speedup=3.3 --mixed]
    python -m benchmarks.peers ... --exported

RUN is a finished run. Its fine-tuned model is the dense model of every system. Its test split gives
the sentences: a seeded sample, tokenized in advance, in arrival order. With --shape only the dense
model is compared, of those sizes, on random weights and texts of one length, without a score;
--speedup adds an AdapLeR model whose thresholds drop tokens to this FLOPs speedup, and --mixed
takes texts of half the length to all of it. --exported adds our models as ONNX files in ONNX
Runtime, in float32 and int8, and in OpenVINO, and the program of their folder in torch.

`pip install -r requirements-baselines.txt` installs the baselines; the command names those that are
not installed and continues without them. Every system gets the same batches. Baselines pad them to
the longest text, ours to its own few lengths. All use as many threads as the process has cores, or
--threads.

Each baseline runs in a process of its own. Systems take turns, all batches of a round each.
`p50_ms`, `p95_ms` and `p99_ms` are of a batch, over batches and rounds. `sentences_per_s` uses
each batch's median. `agreement` is the fraction of --num-scored-texts sentences with the label of
the dense model by torch in float32, and `float32_agreement` with the label of the same model in
float32 by the same engine. `vs_` are ratios of sentences a second: to the fastest baseline in
float32, to the fastest baseline of any dtype, and to our dense model with the same operands: by the
faster of its two drivers, or exported in the same engine.

Not measured: torch.compile, which compiles again for new lengths; weights that are int8 at rest
only.
"""

import argparse
import contextlib
import functools
import importlib.util
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from adapler_jax.cli.console import exit_on_user_error
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.inference.autotune.workloads import check_names
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import write_results
from adapler_jax.types import COMPUTE_DTYPES
from benchmarks.models import MODELS
from benchmarks.peer_runs import Run, load_run, random_run
from benchmarks.peer_scores import score_columns
from benchmarks.peer_systems import (
    PACKAGES,
    REQUIREMENTS,
    make_bench,
    missing_packages,
    peer_versions,
)
from benchmarks.remote import Remote
from benchmarks.systems import OURS, Bench, Texts, chunks, our_systems, pad_to_longest, sample, take
from benchmarks.turns import time_turns, use_cores

PADDED_OR_PACKED = ("padded", "packed")  # engines of our plain BERT
NUM_BATCHES, NUM_SINGLE_TEXTS = 8, 64  # of a round: so many batches, and so many texts at least
ENGINES = ("onnxruntime", "openvino", "torch")  # that run our models without JAX
COLUMNS = (
    "batch",
    "package",
    "method",
    "engine",
    "dtype",
    "flops_speedup",
    "sentences_per_s",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "vs_best_float32_peer",
    "vs_best_peer",
    "vs_our_dense",
    "test_score",
    "agreement",
    "float32_agreement",
)


def time_columns(
    benches: Sequence[Bench], batches: Sequence[Texts], *, num_rounds: int
) -> list[dict]:
    """Return the timed columns of each system, on some full batches."""
    turns = {}
    for bench in benches:
        bench.prepare(batches)
        turns |= {
            (bench, place): functools.partial(bench.turn, place)
            for place in range(len(bench.names()))
        }
    num_texts = sum(len(batch.tokens) for batch in batches)
    columns = []
    for second_RB in time_turns(turns, num_rounds=num_rounds).values():
        p50, p95, p99 = 1e3 * np.percentile(second_RB, (50, 95, 99))
        round_s = np.sum(np.median(second_RB, axis=0))
        columns.append(
            {
                "sentences_per_s": float(num_texts / round_s),
                "p50_ms": float(p50),
                "p95_ms": float(p95),
                "p99_ms": float(p99),
                "num_timings": second_RB.size,
            }
        )
    return columns


def with_ratios(rows: list[dict]) -> list[dict]:
    """Return the rows of one batch size with our speed relative to the other systems."""
    peers = [row for row in rows if row["package"] != OURS]
    rivals = {
        "vs_best_float32_peer": [row for row in peers if row["dtype"] == "float32"],
        "vs_best_peer": peers,
    }
    changed = []
    for row in rows:
        ratios = {}
        if row["package"] == OURS:
            # Of drivers the faster one; of an exported file the same engine's.
            engines = [row["engine"]] if row["engine"] in ENGINES else PADDED_OR_PACKED
            dense = [
                other
                for other in rows
                if (other["package"], other["method"]) == (OURS, "dense")
                and other["engine"] in engines
            ]
            same = {"vs_our_dense": [other for other in dense if other["dtype"] == row["dtype"]]}
            for name, others in (rivals | same).items():
                best = max((other["sentences_per_s"] for other in others), default=None)
                ratios[name] = None if best is None else row["sentences_per_s"] / best
        changed.append(row | ratios)
    return changed


def timed_batches(test: Tokenized, batch_size: int, num_texts: int) -> list[np.ndarray]:
    """Return rows of full batches of a seeded sample.

    Raises:
      ValueError: the texts fill no batch.
    """
    rows = sample(len(test), num_texts or max(NUM_SINGLE_TEXTS, NUM_BATCHES * batch_size))
    batches = [batch for batch in chunks(rows, batch_size) if len(batch) == batch_size]
    if not batches:
        raise ValueError(
            f"{len(rows)} of {len(test)} texts make no batch of {batch_size}; "
            "take smaller batches or more --num-texts"
        )
    return batches


def measure(
    run: Run,
    benches: Sequence[Bench],
    batches: dict[int, list[np.ndarray]],
    options,
    *,
    log: Callable[[str], None],
) -> list[dict]:
    """Return a row for each system and batch size.

    Args:
      batches: rows of the test split, by batch size.
    """
    scored = sample(len(run.test), options.num_scored_texts)
    log(f"scores on {len(scored)} texts")
    scores = score_columns(run, benches, scored, batch_size=max(batches))
    rows = []
    for batch_size, parts in batches.items():
        log(f"batch {batch_size}: {len(parts)} batches, {options.rounds} rounds")
        times = time_columns(
            benches, [take(run.test, part) for part in parts], num_rounds=options.rounds
        )
        shared = {
            "task": run.task,
            "seed": run.seed,
            "metric": run.metric,
            "batch": batch_size,
            "mean_length": float(run.test.lengths[np.concatenate(parts)].mean()),
            "num_texts": len(parts) * batch_size,
        }
        rows += with_ratios(
            [shared | score | time for score, time in zip(scores, times, strict=True)]
        )
    return rows


@contextlib.contextmanager
def open_peers(
    run: Run, options, *, num_threads: int, log: Callable[[str], None]
) -> Iterator[list[Remote]]:
    """Open all installed baselines with the dense model, a process each; log the others."""
    rows = sample(len(run.train), options.num_calibration_texts)
    calibration = [pad_to_longest(take(run.train, [row]), 1) for row in rows]
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        remotes = []
        for name in options.peers.split(","):
            if missing := missing_packages(name):
                log(
                    f"{name} is left out: {', '.join(missing)} not installed; "
                    f"pip install -r {REQUIREMENTS}"
                )
            else:
                log(f"{name}: converting the dense model")
                remote = Remote(
                    make_bench,
                    name,
                    run.directories["dense"],
                    scratch,
                    calibration,
                    num_threads,
                    dtypes=options.dtypes.split(","),
                )
                remotes.append(stack.enter_context(remote))
        yield remotes


@contextlib.contextmanager
def open_exported(
    run: Run, options, *, num_threads: int, log: Callable[[str], None]
) -> Iterator[list[Remote]]:
    """Open our models without JAX, a process for each engine; none without --exported."""
    with contextlib.ExitStack() as stack:
        remotes = []
        if options.exported:
            # onnx may be missing where nothing is exported.
            from benchmarks.exported_systems import export_models, exported_bench

            log("exporting our models")
            scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            files = export_models(run.models, scratch, dtypes=options.dtypes.split(","))
            for engine in ENGINES:
                if importlib.util.find_spec(engine) is None:
                    log(f"{engine} is left out for our models: it is not installed")
                    continue
                remote = Remote(exported_bench, engine, files, num_threads)
                remotes.append(stack.enter_context(remote))
        yield remotes


def parse(arguments) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a finished run")
    source.add_argument("--shape", help="plain BERT on random weights, of " + " or ".join(MODELS))
    parser.add_argument("--length", type=int, default=128, help="of the texts for --shape")
    parser.add_argument("--speedup", type=float, help="of an AdapLeR model for --shape")
    parser.add_argument(
        "--mixed", action="store_true", help="texts of half the length to all of it for --shape"
    )
    parser.add_argument(
        "--exported", action="store_true", help="our models without JAX too: ONNX files and torch"
    )
    parser.add_argument("--peers", default=",".join(PACKAGES), help="what ours is compared with")
    parser.add_argument(
        "--quick", action="store_true", help="the last model, a few texts, two rounds"
    )
    parser.add_argument(
        "--models", default="", help="models of the run, or directories; empty for all of the run"
    )
    parser.add_argument("--drivers", default="bucketed,packed", help="of the pruned models")
    parser.add_argument("--dtypes", default=",".join(COMPUTE_DTYPES), help="of operands")
    parser.add_argument(
        "--batch-sizes", default="1,32", help="scores are taken in batches of the largest"
    )
    parser.add_argument(
        "--num-texts", type=int, default=0, help="of a round; 0: eight batches, 64 texts at least"
    )
    parser.add_argument("--num-scored-texts", type=int, default=1024, help="0: the whole split")
    parser.add_argument(
        "--num-calibration-texts", type=int, default=300, help="of training, for OpenVINO's int8"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--threads", type=int, default=0, help="of every system; 0: as many as there are cores"
    )
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.quick:
        options.batch_sizes, options.num_texts, options.rounds = "4", 8, 2
        options.num_scored_texts, options.num_calibration_texts = 32, 8
    return options


def compare(run: Run, options, *, num_threads: int, log: Callable[[str], None]) -> list[dict]:
    """Return the rows of all systems."""
    if options.quick and not options.models:
        names = dict.fromkeys(("dense", list(run.models)[-1]))
        run = run._replace(models={name: run.models[name] for name in names})
    ours = our_systems(
        run.models,
        drivers=options.drivers.split(","),
        dtypes=options.dtypes.split(","),
        lengths=run.lengths,
        buckets=run.buckets,
    )
    batches = {
        size: timed_batches(run.test, size, options.num_texts)
        for size in map(int, options.batch_sizes.split(","))
    }
    with (
        open_peers(run, options, num_threads=num_threads, log=log) as peers,
        open_exported(run, options, num_threads=num_threads, log=log) as exported,
    ):
        rows = measure(run, [Bench(ours), *exported, *peers], batches, options, log=log)
    return [row | {"num_threads": num_threads} for row in rows]


def main(arguments=None) -> list[dict]:
    """Measure, print and return the rows."""
    options = parse(arguments)

    def log(line):
        print(line, file=sys.stderr)

    num_threads = use_cores(options.threads)
    check_names(options.peers.split(","), PACKAGES, "peer")
    names = [name for name in options.models.split(",") if name]
    if options.shape and names:
        raise ValueError("--models names models of a run; --shape has plain BERT alone")
    with tempfile.TemporaryDirectory() as scratch:
        if options.shape:
            run = random_run(
                options.shape,
                options.length,
                pathlib.Path(scratch),
                speedup=options.speedup,
                is_mixed=options.mixed,
            )
        else:
            run = load_run(options.workdir, names)
        rows = compare(run, options, num_threads=num_threads, log=log)
    write_results(
        rows,
        command=module_command("benchmarks.peers"),
        path=options.json,
        columns=COLUMNS,
        more_versions=peer_versions(),
    )
    return rows


if __name__ == "__main__":
    with exit_on_user_error():
        main()
