r"""Compare the words that AdapLeR keeps with human rationales: its paper's analysis, and ERASER's.

    python -m benchmarks.rationales --model=DIR --set=reinit_head=True --runs=runs/rationales \
        --json=benchmarks/results/rationales.json --png=benchmarks/results/rationales.png

Movie reviews are cut into windows of --max_length tokens that contain a rationale. Each window has
the label of its review. AdapLeR is trained on them, a model for each seed; what is missing under
--runs is trained. The scores of words come from AdapLeR's predictors and, for the fine-tuned
model, from attention, its rollout and saliency. At every layer the table has average precision and
false positive rate. For one score of each word it has token F1, IOU F1, AUPRC, comprehensiveness
and sufficiency. The score is the mean over the layers for AdapLeR, the last layer for attention
and rollout, and the embeddings for saliency. Rows are by seed, method and layer or predictor; then
means over the seeds.
"""

import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.data.classification.rationales import MOVIE_CLASSES, load_movie_rationales
from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.records import print_table, write_json
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import run_all
from adapler_jax.types import COMPUTE_DTYPES
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.save import load_model
from benchmarks.methods import config_of, parse_changes
from benchmarks.plot_rationales import plot_layers
from benchmarks.rationale_scores import eraser_rows, layer_rows, score_windows
from benchmarks.rationale_windows import encode_windows, share_out, windows_of, write_windows
from benchmarks.records import Record, means_over_seeds
from configs import adapler

LAYER_COLUMNS = ("average_precision", "false_positive_rate", "chosen_share", "kept_share")
ERASER_COLUMNS = ("token_f1", "iou_f1", "auprc", "comprehensiveness", "sufficiency")
MODEL_COLUMNS = ("test_score", "dense_score", "flops_speedup")


def summarize(rows: list[dict]) -> list[dict]:
    """Return means and deviations over the seeds by method and layer, or predictor."""
    return means_over_seeds(
        rows,
        by=("method", "layer", "predictor"),
        names=(*LAYER_COLUMNS, *ERASER_COLUMNS, *MODEL_COLUMNS),
    )


def changes_of(options) -> dict:
    """Return the config fields of the command."""
    changes = {
        "model": options.model,
        "data.max_length": options.max_length,
        "data.class_names": MOVIE_CLASSES,
    }
    return changes | parse_changes(options.set)


def prepare_windows(options, runs: pathlib.Path) -> tuple[dict, dict]:
    """Return windows by split, and the sources of their files."""
    core = load_core(resolve_model(options.model))
    documents = share_out(load_movie_rationales(options.source))
    windows = {
        split: windows_of(core, texts, options.max_length) for split, texts in documents.items()
    }
    return windows, write_windows(windows, runs / f"windows-{options.max_length}")


def measure_seed(
    config, workdir: pathlib.Path, windows: dict, *, log: Callable[[str], None]
) -> list[dict]:
    """Train what is missing and measure one seed."""
    run_all(config, workdir, log=log)
    models = {"dense": workdir / "finetune" / "model", "adapler": workdir / "adapler" / "model"}
    saved = {name: load_model(directory) for name, directory in models.items()}
    (scored,) = (
        row
        for row in evaluate_workdir(workdir, log=log, with_times=False)
        if row["method"] == "adapler"
    )
    log("scores of every word")
    looked = windows["test"]
    encoded = encode_windows(
        load_core(models["dense"]), looked, max_length=saved["dense"].max_length
    )
    dtype = COMPUTE_DTYPES[config.compute_dtype]
    num_words = [len(window.words) for window in looked]
    scores = score_windows(
        saved["dense"], saved["adapler"], encoded, num_words, dtype=dtype, seed=config.seed
    )
    log("answers without the words, and to them alone")
    classifiers = {
        name: Classifier.load(directory, dtype=dtype) for name, directory in models.items()
    }
    share = float(np.mean([window.rationale_W.mean() for window in windows["train"]]))
    rows = layer_rows(scores, looked) + eraser_rows(scores, looked, share, classifiers)
    more = {name: scored[name] for name in MODEL_COLUMNS} | {
        "num_windows": len(looked),
        "rationale_share": share,
    }
    return [{"seed": config.seed, "predictor": None} | row | more for row in rows]


def main(options):
    """Train, measure, print and draw."""

    def log(line):
        print(line, file=sys.stderr)

    changes, runs = changes_of(options), pathlib.Path(options.runs)
    record = Record(
        options.json, {"source": options.source} | changes, module="benchmarks.rationales"
    )
    windows, sources = prepare_windows(options, runs)
    log(", ".join(f"{len(texts)} windows of {split}" for split, texts in windows.items()))
    for seed in map(int, options.seeds):
        if seed not in {row["seed"] for row in record.rows}:
            config = config_of(adapler, "custom", seed, changes | {"data.sources": sources})
            workdir = runs / f"seed{seed}"
            record.add(measure_seed(config, workdir, windows, log=log), summary=summarize)
            write_json(
                workdir / "rationales.json",
                {"rows": [row for row in record.rows if row["seed"] == seed]},
            )
    summary = summarize(record.rows)
    print_table(
        [row for row in summary if row["layer"] is not None],
        columns=["method", "layer", *LAYER_COLUMNS],
    )
    print_table(
        [row for row in summary if row["layer"] is None],
        columns=["method", "predictor", *ERASER_COLUMNS],
    )
    if options.png:
        plot_layers(summary, options.png)


if __name__ == "__main__":
    flags.DEFINE_string(
        "source", "tfds:movie_rationales", "movie reviews with rationales, or file:FOLDER"
    )
    flags.DEFINE_string("model", "bert-base-uncased", "local directory or hub name of a BERT")
    flags.DEFINE_multi_string("set", [], "FIELD=VALUE of the config; may be given again")
    flags.DEFINE_integer(
        "max_length", 256, "tokens of a window, [CLS] and [SEP] included", lower_bound=8
    )
    flags.DEFINE_string("runs", None, "folder of the windows and workdirs")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "training seeds; the splits stay the same")
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.DEFINE_string("png", "", "where the lines over the layers are drawn")
    flags.mark_flags_as_required(["runs", "json"])
    run_command(lambda: main(flags.FLAGS))
