"""Draw the pictures of docs/how-it-works.md from an AdapLeR run and a record of the drivers.

Usage: python docs/pictures.py --workdir=W --out=docs/pictures

1. the words of one text, layer by layer
2. scores and threshold of one layer
3. the soft removal at the slopes of training
4. tokens left in each layer over test texts
5. operations and seconds

The script also prints the numbers of the pictures.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

# The script also works in a clone without an installed library.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax.numpy as jnp
import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.explanation import Explanation, reached_layer
from adapler_jax.pruning.adapler import soft_removal
from adapler_jax.training.finished import finished_phases, read_run
from adapler_jax.training.from_config import make_slope_schedule
from adapler_jax.training.setup import engine_options
from adapler_jax.training.text_tasks import load_data
from adapler_jax.weights.save import load_model
from benchmarks.pyplot import load_pyplot

KEPT, DROPPED = "#e69f00", "#9a9a9a"
DRIVERS = {"bucketed": ("#b35806", "s"), "packed": ("#2166ac", "o")}
STAGES = (0.0, 0.25, 0.5, 1.0)  # fractions of training, for picture 3
STEPS_PER_EPOCH = 1000  # any number: slopes depend on the fraction of training
SHOWN_WORDS = range(9, 14)  # number of words of the text shown
TOKEN_GAP = 1.6  # characters
FULL_SHADE = 2.5  # score over the mean score of a layer that gets the darkest shade
MIN_SHADE = 0.12
GUIDE = {"color": "0.5", "linewidth": 1, "linestyle": ":"}  # style of helping lines
PERCENTILES = (10, 90)  # the band of picture 4


def choose(explanations: Sequence[Explanation], labels: Sequence[str]) -> Explanation:
    """Return the explanation of the longest text of readable length with a correct label.

    Raises:
      ValueError: there is no such text.
    """
    candidates = [
        explanation
        for explanation, label in zip(explanations, labels, strict=True)
        if explanation.prediction.label == label and num_words(explanation) in SHOWN_WORDS
    ]
    if not candidates:
        first, last = SHOWN_WORDS[0], SHOWN_WORDS[-1]
        raise ValueError(
            f"no text has {first} to {last} words and a correct label; give one by --text"
        )
    return max(candidates, key=lambda explanation: len(explanation.prediction.texts[0]))


def num_words(explanation: Explanation) -> int:
    """Return the number of words of the text."""
    return len(explanation.prediction.texts[0].split())


def thresholds_of(explanation: Explanation, eta_N) -> np.ndarray:
    """Return the threshold eta / n of every layer, float [N], for n tokens that enter the layer."""
    num_entering_N = [len(explanation.tokens), *explanation.prediction.num_tokens[:-1]]
    return np.asarray(eta_N) / np.array(num_entering_N)


def busiest_layer(explanation: Explanation) -> int:
    """Return the first layer, from 0, that drops the most tokens."""
    counts = np.array([len(explanation.tokens), *explanation.prediction.num_tokens])
    return int(np.argmax(counts[:-1] - counts[1:]))


def slopes_of(options) -> list[float]:
    """Return the slopes of the run's schedule at STAGES."""
    slope_fn = make_slope_schedule(options)
    last_step = STEPS_PER_EPOCH * options.num_epochs - 1
    steps = [jnp.int32(round(stage * last_step)) for stage in STAGES]
    return [float(slope_fn(step, STEPS_PER_EPOCH)) for step in steps]


def driver_points(
    rows: list[dict[str, Any]], *, batch: int, length: int, dtype: str
) -> dict[str, np.ndarray]:
    """Return {driver: float [points, 2]}: operations and seconds in percent of the dense model."""
    case = (batch, length, dtype, "mixed")
    chosen = [
        row for row in rows if (row["batch"], row["length"], row["dtype"], row["texts"]) == case
    ]
    points: dict[str, list[tuple[float, float]]] = {driver: [] for driver in DRIVERS}
    for row in chosen:
        if row["engine"] in points:
            point = (100 / row["flops_speedup"], 100 / row["wall_speedup"])
            points[row["engine"]].append(point)
    return {driver: np.array(found) for driver, found in points.items()}


def draw_words(pyplot, explanation: Explanation, path: pathlib.Path) -> None:
    """Draw picture 1: a row per layer, with tokens shaded by their score."""
    width_L = np.array([len(token) for token in explanation.tokens])
    end_L = np.cumsum(width_L + TOKEN_GAP)  # in characters
    num_layers = len(explanation.keep_NL)
    size = (1.6 + 0.078 * end_L[-1], 0.9 + 0.38 * num_layers)
    figure, axis = pyplot.subplots(figsize=size, layout="constrained")
    for layer, token in zip(*np.nonzero(reached_layer(explanation.keep_NL))):
        draw_token(axis, explanation, layer=layer, token=token, end=end_L[token])
    axis.set(xlim=(0, end_L[-1] + 1), ylim=(num_layers - 0.4, -0.6), xticks=[])
    counts = explanation.keep_NL.sum(axis=1)
    labels = [f"layer {layer + 1}, {count} tokens" for layer, count in enumerate(counts)]
    axis.set_yticks(range(num_layers), labels)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)
    save(pyplot, figure, axis, path=path)


def draw_token(axis, explanation: Explanation, *, layer: int, token: int, end: float) -> None:
    """Draw one token of a layer: shaded if it is kept, struck out if it is dropped."""
    text, kept = explanation.tokens[token], explanation.keep_NL[layer, token]
    middle = end - len(text) / 2
    color = "black" if kept else DROPPED
    shade = {
        "boxstyle": "square,pad=0.2",
        "linewidth": 0,
        "facecolor": KEPT,
        "alpha": shade_of(explanation, layer, token) if kept else 0.0,
    }
    font = {"fontsize": 8.5, "family": "monospace", "ha": "center", "va": "center"}
    axis.text(middle, layer, text, color=color, bbox=shade, **font)
    if not kept:
        ends = middle + np.array([-0.5, 0.5]) * len(text)
        axis.plot(ends, [layer, layer], color=DROPPED, linewidth=1)


def shade_of(explanation: Explanation, layer: int, token: int) -> float:
    """Return the opacity of a token's shade: its score relative to the mean score of the layer."""
    num_entering = reached_layer(explanation.keep_NL)[layer].sum()
    relative = explanation.score_NL[layer, token] * num_entering
    return float(np.clip(relative / FULL_SHADE, MIN_SHADE, 1.0))


def draw_scores(pyplot, explanation: Explanation, eta_N, path: pathlib.Path) -> int:
    """Draw picture 2, the scores and the threshold of one layer, and return the layer, from 0."""
    layer = busiest_layer(explanation)
    enters_L = explanation.score_NL[layer] > 0
    score_L, keep_L = explanation.score_NL[layer][enters_L], explanation.keep_NL[layer][enters_L]
    tokens = [token for token, enters in zip(explanation.tokens, enters_L) if enters]
    threshold, mean = thresholds_of(explanation, eta_N)[layer], 1 / len(tokens)
    figure, axis = pyplot.subplots(figsize=(8, 3.4), layout="constrained")
    for name, color, shown_L in (("kept", KEPT, keep_L), ("dropped", DROPPED, ~keep_L)):
        axis.bar(np.flatnonzero(shown_L), score_L[shown_L], color=color, label=name)
    axis.axhline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.3f}")
    axis.axhline(mean, label=f"mean score {mean:.3f}", **GUIDE)
    axis.set_xticks(range(len(tokens)), tokens, rotation=55, ha="right", rotation_mode="anchor")
    title = f"layer {layer + 1}: {len(tokens)} tokens enter, {keep_L.sum()} are kept"
    axis.set(ylabel="score", title=title)
    axis.margins(y=0.3)
    axis.legend(frameon=False, ncols=4, loc="upper left")
    save(pyplot, figure, axis, path=path)
    return layer


def draw_removal(pyplot, slopes: Sequence[float], threshold: float, path: pathlib.Path) -> None:
    """Draw picture 3: the survival weight at each slope, over score / threshold."""
    ratio_X = np.linspace(0.5, 1.25, 751)
    score_X = jnp.asarray(ratio_X * threshold, jnp.float32)
    figure, axis = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    shades = pyplot.colormaps["YlOrBr"](np.linspace(0.35, 0.95, len(slopes)))
    for slope, stage, shade in zip(slopes, STAGES, shades):
        survival_X = np.exp(soft_removal(score_X, threshold, slope))
        label = f"slope {slope:.0f}, at {stage:.0%} of training"
        axis.plot(ratio_X, survival_X, color=shade, label=label)
    axis.axvline(1.0, **GUIDE)
    axis.set(
        xlabel="score / threshold", ylabel="survival weight", title="soft removal in one layer"
    )
    axis.legend(frameon=False)
    save(pyplot, figure, axis, path=path)


def draw_counts(pyplot, count_EN, length_E, path: pathlib.Path) -> None:
    """Draw picture 4: tokens left in each layer, the mean over texts and the middle 80 percent."""
    count_EN = np.concatenate([length_E[:, None], count_EN], axis=1)
    layer_N = np.arange(count_EN.shape[1])
    low_N, high_N = np.percentile(count_EN, PERCENTILES, axis=0)
    figure, axis = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    band = {"color": KEPT, "alpha": 0.25, "linewidth": 0, "label": "middle 80% of the texts"}
    axis.fill_between(layer_N, low_N, high_N, **band)
    axis.plot(layer_N, count_EN.mean(axis=0), color=KEPT, marker="o", label="mean")
    axis.axhline(length_E.mean(), label="plain BERT, mean", **GUIDE)
    axis.set_xticks(layer_N, ["text", *map(str, layer_N[1:])])
    title = f"tokens left over {len(length_E)} test texts"
    axis.set(xlabel="layer", ylabel="tokens", ylim=0, title=title)
    axis.legend(frameon=False)
    save(pyplot, figure, axis, path=path)


def draw_seconds(pyplot, points: dict[str, np.ndarray], title: str, path: pathlib.Path) -> None:
    """Draw picture 5: seconds over operations, both in percent of plain BERT."""
    figure, axis = pyplot.subplots(figsize=(5.2, 4.0), layout="constrained")
    axis.plot([0, 110], [0, 110], label="time in proportion", **GUIDE)
    axis.plot([100], [100], color="black", marker="D", linestyle="none", label="plain BERT, padded")
    for driver, point_P2 in points.items():
        color, marker = DRIVERS[driver]
        axis.plot(*point_P2.T, color=color, marker=marker, label=driver)
    axis.set(xlabel="operations, % of plain BERT", ylabel="seconds, % of plain BERT")
    axis.set(xlim=(0, 110), ylim=0)
    axis.set_title(title, fontsize=10)
    axis.legend(frameon=False)
    save(pyplot, figure, axis, path=path)


def save(pyplot, figure, axis, *, path: pathlib.Path) -> None:
    """Write and close a figure without its upper and right frame."""
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def load_shown(options, workdir: pathlib.Path) -> tuple[Classifier, np.ndarray]:
    """Return the classifier of the model that is shown, and its eta of every layer.

    Raises:
      ValueError: the run has no such model.
    """
    phases = finished_phases(workdir)
    if options.model not in phases:
        names = ", ".join(phases)
        raise ValueError(f"{workdir} has no finished model {options.model}; there are {names}")
    folder = phases[options.model] / "model"
    eta_N = np.asarray(load_model(folder).params["pruner"]["threshold_N"])
    return Classifier.load(folder, **engine_options(read_run(workdir))), eta_N


def sample_texts(config, num_texts: int) -> tuple[list[str], list[str]]:
    """Return a seeded sample of the run's test texts, and the names of their classes."""
    dataset = load_data(config)
    examples = dataset.split(dataset.eval_splits[0])
    rows = np.random.default_rng(0).permutation(len(examples))[:num_texts]
    names = dataset.task.class_names
    return [examples.texts[row] for row in rows], [names[examples.labels[row]] for row in rows]


def draw_run(pyplot, options, out: pathlib.Path) -> None:
    """Draw pictures 1 to 4 from the run and print their numbers."""
    workdir = pathlib.Path(options.workdir).expanduser()
    config = read_run(workdir)
    classifier, eta_N = load_shown(options, workdir)
    texts, labels = sample_texts(config, options.texts)
    explanations = classifier.explain_all(texts)
    shown = classifier.explain(options.text) if options.text else choose(explanations, labels)
    draw_words(pyplot, shown, out / "words.png")
    layer = draw_scores(pyplot, shown, eta_N, out / "scores.png")
    slopes, threshold = slopes_of(config.adapler), float(thresholds_of(shown, eta_N)[layer])
    draw_removal(pyplot, slopes, threshold, out / "soft_removal.png")
    length_E = np.array([len(explanation.tokens) for explanation in explanations])
    count_EN = np.array([explanation.prediction.num_tokens for explanation in explanations])
    draw_counts(pyplot, count_EN, length_E, out / "tokens.png")
    print_shown(shown)
    print("eta:", *(f"{eta:.3f}" for eta in eta_N))
    print("slopes:", *(f"{slope:.0f}" for slope in slopes))
    print(f"layer {layer + 1}: threshold {threshold:.3f}")
    means = count_EN.mean(axis=0).round(1).tolist()
    print(f"mean tokens of {len(texts)} texts: {length_E.mean():.1f} then", *means)


def print_shown(shown: Explanation) -> None:
    """Print the text that is shown, its prediction and its kept words."""
    prediction = shown.prediction
    print("text:", prediction.texts[0])
    print("prediction:", prediction.label, f"{prediction.probability:.2f}")
    print("tokens:", len(shown.tokens), "then", *prediction.num_tokens)
    print("words in the last layer:", *prediction.kept_words[-1])


def draw_record(pyplot, path: pathlib.Path, out: pathlib.Path) -> None:
    """Draw picture 5 from the record and print its numbers."""
    record = json.loads(path.read_text())
    points = driver_points(record["rows"], batch=32, length=128, dtype="float32")
    title = f"32 texts of up to 128 tokens\n{record['device']}"
    draw_seconds(pyplot, points, title, out / "seconds.png")
    for driver, point_P2 in points.items():
        pairs = [f"{operations:.0f}/{seconds:.0f}" for operations, seconds in point_P2]
        print(f"{driver}: operations % and seconds %:", *pairs)


def main(options) -> None:
    """Draw all five pictures and print their numbers."""
    pyplot = load_pyplot()
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    draw_run(pyplot, options, out)
    draw_record(pyplot, pathlib.Path(options.record), out)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "finished AdapLeR run")
    flags.DEFINE_string("model", "adapler", "model of the run, as adapt-2x")
    flags.DEFINE_string("out", None, "folder of the pictures")
    flags.DEFINE_string(
        "record", "benchmarks/results/engines-minilm.json", "record of benchmarks.engines"
    )
    flags.DEFINE_string("text", "", "text of pictures 1 and 2; default: a test text")
    flags.DEFINE_integer("texts", 1000, "number of test texts", lower_bound=1)
    flags.mark_flags_as_required(["workdir", "out"])
    run_command(lambda: main(flags.FLAGS))
