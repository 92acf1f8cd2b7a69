"""The pictures of docs/how-it-works.md, from one AdapLeR run and one record of the drivers.

    python docs/pictures.py --workdir=W --out=docs/pictures

1 words of one text, layer by layer; 2 scores against the threshold of one layer; 3 the soft removal at the slopes that
training took; 4 tokens left in each layer over test texts; 5 operations against seconds. What a
picture shows is printed too, so that a text can quote it.
"""

import json
import pathlib
import sys

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parent.parent)
)  # the library, where it is not installed

import jax.numpy as jnp
import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.explanation import Explanation, reached_layer
from adapler_jax.pruning.adapler import soft_removal
from adapler_jax.training.finished import finished_phases, read_run
from adapler_jax.training.methods.adapler import make_slope_schedule
from adapler_jax.training.setup import engine_options
from adapler_jax.training.task_data import load_data
from adapler_jax.weights.save import load_model
from benchmarks.pyplot import load_pyplot

KEPT, DROPPED = "#e69f00", "#9a9a9a"
DRIVERS = {"bucketed": ("#b35806", "s"), "packed": ("#2166ac", "o")}
STAGES = (0.0, 0.25, 0.5, 1.0)  # of training, at which the soft removal is drawn


def choose(explanations: list[Explanation], labels: list[str]) -> Explanation:
    """The one with the longest text among those of 9 to 13 words that the model labels rightly."""
    found = [
        explanation
        for explanation, label in zip(explanations, labels, strict=True)
        if explanation.prediction.label == label
        and 9 <= len(explanation.prediction.texts[0].split()) <= 13
    ]
    if not found:
        raise ValueError(
            "none of the texts has 9 to 13 words and a right label; give one by --text"
        )
    return max(found, key=lambda explanation: len(explanation.prediction.texts[0]))


def thresholds_of(explanation: Explanation, eta_N) -> np.ndarray:
    """eta_n / length of every layer, the length being that of the tokens which enter it: float [layers]."""
    entering_N = [len(explanation.tokens), *explanation.prediction.num_tokens[:-1]]
    return np.asarray(eta_N) / np.array(entering_N)


def busiest_layer(explanation: Explanation) -> int:
    """The layer in front of which most tokens go, from 0; of equal ones the first."""
    counts = np.array([len(explanation.tokens), *explanation.prediction.num_tokens])
    return int(np.argmax(counts[:-1] - counts[1:]))


def slopes_of(options) -> list[float]:
    """The slopes of training at its stages, by the run's schedule."""
    steps = 1000  # a share of training needs no more
    slope = make_slope_schedule(options)
    last = steps * options.num_epochs - 1
    return [float(slope(jnp.int32(round(stage * last)), steps)) for stage in STAGES]


def driver_points(
    rows: list[dict], *, batch: int, length: int, dtype: str
) -> dict[str, np.ndarray]:
    """{driver: [points, 2]} of operations and milliseconds, both in percent of the dense model's."""
    chosen = [
        row
        for row in rows
        if (row["batch"], row["length"], row["dtype"], row["texts"])
        == (batch, length, dtype, "mixed")
    ]
    return {
        driver: np.array(
            [
                (100 / row["flops_speedup"], 100 / row["wall_speedup"])
                for row in chosen
                if row["engine"] == driver
            ]
        )
        for driver in DRIVERS
    }


def draw_words(pyplot, explanation: Explanation, path) -> None:
    """Picture 1: a row a layer; a token is the darker, the higher its score beside the mean of the layer."""
    keep_NL, score_NL = explanation.keep_NL, explanation.score_NL
    entering_NL = reached_layer(keep_NL)
    width_L = np.array([len(token) for token in explanation.tokens])
    end_L = np.cumsum(width_L + 1.6)  # in characters, with a gap between two tokens
    num_layers = len(keep_NL)
    figure, axis = pyplot.subplots(
        figsize=(1.6 + 0.078 * end_L[-1], 0.9 + 0.38 * num_layers), layout="constrained"
    )
    for layer, token in zip(*np.nonzero(entering_NL)):
        kept, middle = keep_NL[layer, token], end_L[token] - width_L[token] / 2
        strength = (
            np.clip(score_NL[layer, token] * entering_NL[layer].sum() / 2.5, 0.12, 1.0)
            if kept
            else 0.0
        )
        axis.text(
            middle,
            layer,
            explanation.tokens[token],
            ha="center",
            va="center",
            fontsize=8.5,
            family="monospace",
            color="black" if kept else DROPPED,
            bbox={
                "boxstyle": "square,pad=0.2",
                "linewidth": 0,
                "facecolor": KEPT,
                "alpha": strength,
            },
        )
        if not kept:
            axis.plot(
                middle + np.array([-0.5, 0.5]) * width_L[token],
                [layer, layer],
                color=DROPPED,
                linewidth=1,
            )
    axis.set(xlim=(0, end_L[-1] + 1), ylim=(num_layers - 0.4, -0.6), xticks=[])
    axis.set_yticks(
        range(num_layers), [f"layer {n + 1}, {keep_NL[n].sum()} tokens" for n in range(num_layers)]
    )
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)
    save(pyplot, figure, axis, path)


def draw_scores(pyplot, explanation: Explanation, eta_N, path) -> int:
    """Picture 2: the scores of the tokens that enter one layer, and its threshold. Returns the layer, from 0."""
    layer = busiest_layer(explanation)
    entered = explanation.score_NL[layer] > 0
    score_L, keep_L = explanation.score_NL[layer][entered], explanation.keep_NL[layer][entered]
    tokens = [token for token, there in zip(explanation.tokens, entered) if there]
    threshold = thresholds_of(explanation, eta_N)[layer]
    figure, axis = pyplot.subplots(figsize=(8, 3.4), layout="constrained")
    for name, color, shown_L in (("stays", KEPT, keep_L), ("goes", DROPPED, ~keep_L)):
        axis.bar(np.flatnonzero(shown_L), score_L[shown_L], color=color, label=name)
    axis.axhline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.3f}")
    axis.axhline(
        1 / len(tokens),
        color="0.5",
        linewidth=1,
        linestyle=":",
        label=f"mean score {1 / len(tokens):.3f}",
    )
    axis.set_xticks(range(len(tokens)), tokens, rotation=55, ha="right", rotation_mode="anchor")
    axis.set(
        ylabel="score", title=f"layer {layer + 1}: {len(tokens)} tokens come, {keep_L.sum()} stay"
    )
    axis.margins(y=0.3)
    axis.legend(frameon=False, ncols=4, loc="upper left")
    save(pyplot, figure, axis, path)
    return layer


def draw_removal(pyplot, slopes: list[float], threshold: float, path) -> None:
    """Picture 3: what is left of a token at each slope, over its score as a multiple of the threshold."""
    ratio_X = np.linspace(0.5, 1.25, 751)
    figure, axis = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    shades = pyplot.colormaps["YlOrBr"](np.linspace(0.35, 0.95, len(slopes)))
    for slope, stage, shade in zip(slopes, STAGES, shades):
        weight_X = np.exp(
            soft_removal(jnp.asarray(ratio_X * threshold, jnp.float32), threshold, slope)
        )
        axis.plot(
            ratio_X, weight_X, color=shade, label=f"slope {slope:.0f}, at {stage:.0%} of training"
        )
    axis.axvline(1.0, color="0.5", linewidth=1, linestyle=":")
    axis.set(
        xlabel="score / threshold", ylabel="weight that is left", title="soft removal in one layer"
    )
    axis.legend(frameon=False)
    save(pyplot, figure, axis, path)


def draw_counts(pyplot, count_EN, length_E, path) -> None:
    """Picture 4: tokens left in each layer over texts: the mean, and the range of the middle 80 percent."""
    layer_N = np.arange(count_EN.shape[1] + 1)
    count_EN = np.concatenate([length_E[:, None], count_EN], axis=1)
    low_N, high_N = np.percentile(count_EN, (10, 90), axis=0)
    figure, axis = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    axis.fill_between(
        layer_N, low_N, high_N, color=KEPT, alpha=0.25, linewidth=0, label="middle 8 of 10 texts"
    )
    axis.plot(layer_N, count_EN.mean(axis=0), color=KEPT, marker="o", label="mean")
    axis.axhline(length_E.mean(), color="0.5", linewidth=1, linestyle=":", label="plain BERT, mean")
    axis.set_xticks(layer_N, ["text", *map(str, layer_N[1:])])
    axis.set(
        xlabel="layer",
        ylabel="tokens",
        ylim=0,
        title=f"tokens left over {len(length_E)} test texts",
    )
    axis.legend(frameon=False)
    save(pyplot, figure, axis, path)


def draw_seconds(pyplot, points: dict, title: str, path) -> None:
    """Picture 5: seconds over operations, both in percent of plain BERT's."""
    figure, axis = pyplot.subplots(figsize=(5.2, 4.0), layout="constrained")
    axis.plot(
        [0, 110],
        [0, 110],
        color="0.5",
        linewidth=1,
        linestyle=":",
        label="all that is saved is time",
    )
    axis.plot([100], [100], color="black", marker="D", linestyle="none", label="plain BERT, padded")
    for driver, point_P2 in points.items():
        color, marker = DRIVERS[driver]
        axis.plot(*point_P2.T, color=color, marker=marker, label=driver)
    axis.set(
        xlabel="operations, % of plain BERT",
        ylabel="seconds, % of plain BERT",
        xlim=(0, 110),
        ylim=0,
    )
    axis.set_title(title, fontsize=10)
    axis.legend(frameon=False)
    save(pyplot, figure, axis, path)


def save(pyplot, figure, axis, path) -> None:
    """Writes and closes a figure without its upper and right frame."""
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def load_shown(options, workdir: pathlib.Path):
    """(classifier, its eta) of the model that is shown."""
    phases = finished_phases(workdir)
    if options.model not in phases:
        raise ValueError(
            f"{workdir} holds no finished model {options.model}; there are {', '.join(phases)}"
        )
    folder = phases[options.model] / "model"
    eta_N = np.asarray(load_model(folder).params["pruner"]["threshold_N"])
    return Classifier.load(folder, **engine_options(read_run(workdir))), eta_N


def sample_texts(config, num_texts: int) -> tuple[list[str], list[str]]:
    """A seeded sample of the test texts of a run, and the names of their classes."""
    dataset = load_data(config)
    examples = dataset.split(dataset.eval_splits[0])
    rows = np.random.default_rng(0).permutation(len(examples))[:num_texts]
    names = dataset.task.class_names
    return [examples.texts[row] for row in rows], [names[examples.labels[row]] for row in rows]


def main(options) -> None:
    """Draw all five and prints what they show."""
    pyplot = load_pyplot()
    workdir, out = pathlib.Path(options.workdir).expanduser(), pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    config = read_run(workdir)
    classifier, eta_N = load_shown(options, workdir)
    texts, labels = sample_texts(config, options.texts)
    explanations = classifier.explain_all(texts)
    shown = classifier.explain(options.text) if options.text else choose(explanations, labels)
    draw_words(pyplot, shown, out / "words.png")
    layer = draw_scores(pyplot, shown, eta_N, out / "scores.png")
    slopes, threshold = slopes_of(config.adapler), thresholds_of(shown, eta_N)[layer]
    draw_removal(pyplot, slopes, float(threshold), out / "soft_removal.png")
    length_E = np.array([len(explanation.tokens) for explanation in explanations])
    count_EN = np.array([explanation.prediction.num_tokens for explanation in explanations])
    draw_counts(pyplot, count_EN, length_E, out / "tokens.png")
    record = json.loads(pathlib.Path(options.record).read_text())
    points = driver_points(record["rows"], batch=32, length=128, dtype="float32")
    draw_seconds(
        pyplot, points, f"32 texts of up to 128 tokens\n{record['device']}", out / "seconds.png"
    )
    print("text:", shown.prediction.texts[0])
    print("answer:", shown.prediction.label, f"{shown.prediction.probability:.2f}")
    print("tokens:", len(shown.tokens), "then", *shown.prediction.num_tokens)
    print("words in the last layer:", *shown.prediction.kept_words[-1])
    print(
        "eta:", *(f"{eta:.3f}" for eta in eta_N), "- slopes:", *(f"{slope:.0f}" for slope in slopes)
    )
    print(f"layer {layer + 1}: threshold {threshold:.3f}")
    print(
        f"mean tokens of {len(texts)} texts: {length_E.mean():.1f} then",
        *count_EN.mean(axis=0).round(1).tolist(),
    )
    for driver, point_P2 in points.items():
        print(f"{driver}: operations % and seconds %:", *(f"{a:.0f}/{b:.0f}" for a, b in point_P2))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "a finished AdapLeR run")
    flags.DEFINE_string("model", "adapler", "which of its models, as adapt-2x")
    flags.DEFINE_string("out", None, "folder of the pictures")
    flags.DEFINE_string(
        "record", "benchmarks/results/engines-minilm.json", "of benchmarks.engines, for picture 5"
    )
    flags.DEFINE_string("text", "", "for pictures 1 and 2; empty: one of the test texts")
    flags.DEFINE_integer("texts", 1000, "test texts that are looked at", lower_bound=1)
    flags.mark_flags_as_required(["workdir", "out"])
    run_command(lambda: main(flags.FLAGS))
