import json
import types

import numpy as np
import pytest

from adapler_jax.data.classification.rationales import AnnotatedText
from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.inference.words import encode_words
from benchmarks import plot_rationales, rationales
from benchmarks.rationale_scores import agreement, eraser_rows, hard_scores, layer_rows, some_words
from benchmarks.rationale_windows import encode_windows, share_out, windows_of

NUM_LAYERS = 4


def write_reviews(folder, *, num_documents=24, with_test=False):
    """Reviews in which the one word of the rationale decides the label."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = []
        for _ in range(num_documents):
            words, label = (
                [str(word) for word in rng.choice(["a", "film", "films", "."], 20)],
                int(rng.integers(2)),
            )
            place = int(rng.integers(20))
            words[place] = ("bad", "good")[label]
            spans = [[place, place + 1]] if split != "test" or with_test else []
            rows.append(
                {
                    "review": " ".join(words),
                    "label": label,
                    "evidences": [],
                    "evidence_spans": spans,
                }
            )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{folder}"


def annotated(marks, **more):
    rationale_W = np.array([mark == "x" for mark in marks])
    return AnnotatedText(
        tuple(f"w{place}" for place in range(len(marks))),
        rationale_W,
        **({"label": 0, "document": 0} | more),
    )


@pytest.mark.long
def test_a_seed_is_trained_and_measured_once(tiny_files, tmp_path, capsys):
    options = types.SimpleNamespace(
        source=write_reviews(tmp_path / "reviews"),
        model=str(tiny_files / "model"),
        max_length=16,
        seeds=["0"],
        set=[
            "adapler.num_epochs=1",
            "finetune.num_epochs=1",
            "data.bucket_lengths=(16,)",
            "unroll_layers=False",
        ],
        runs=str(tmp_path / "runs"),
        json=str(tmp_path / "rows.json"),
        png="",
    )
    rationales.main(options)
    record = json.loads((tmp_path / "rows.json").read_text())
    layers = [(row["method"], row["layer"]) for row in record["rows"] if row["layer"] is not None]
    methods = ("adapler", "attention", "attention received", "rollout", "saliency", "random")
    assert layers == [(method, layer) for method in methods for layer in range(NUM_LAYERS)]
    eraser = [(row["method"], row["predictor"]) for row in record["rows"] if row["layer"] is None]
    assert eraser == [
        ("adapler", "dense"),
        ("adapler", "adapler"),
        ("attention", "dense"),
        ("rollout", "dense"),
        ("saliency", "dense"),
        ("random", "dense"),
        ("random", "adapler"),
    ]
    for row in record["rows"]:
        columns = (
            rationales.LAYER_COLUMNS[:3]
            if row["layer"] is not None
            else rationales.ERASER_COLUMNS[:3]
        )
        assert all(0.0 <= row[name] <= 1.0 for name in columns)
        assert row["num_windows"] >= 24 and 0.0 < row["rationale_share"] < 0.5
    assert (
        json.loads((tmp_path / "runs" / "seed0" / "rationales.json").read_text())["rows"]
        == record["rows"]
    )
    assert "token_f1" in capsys.readouterr().out
    rationales.main(options)
    assert json.loads((tmp_path / "rows.json").read_text()) == record


def test_words_give_the_tokens_of_their_text(tiny_files):
    core = load_core(tiny_files / "model")
    text = AnnotatedText(("films", "a.film", "."), np.zeros(3, bool), label=0, document=0)
    (found,) = encode_windows(core, [text], max_length=None)
    (expected,) = encode_words(core, [text.text], None, max_length=16)
    assert found.token_L.tolist() == expected.token_L.tolist()
    assert found.word_L.tolist() == [-1, 0, 0, 1, 1, 1, 2, -1]


def test_windows_without_a_rationale_are_left_out(tiny_files):
    core = load_core(tiny_files / "model")
    document = AnnotatedText(
        tuple("a a a film film film a a a".split()), np.arange(9) == 4, label=1, document=7
    )
    (window,) = windows_of(core, [document], max_length=5)
    assert window.text == "film film film" and (window.label, window.document) == (1, 7)
    assert windows_of(core, [annotated("....")], max_length=5) == []


def test_documents_are_shared_out_whole():
    train = [annotated("x.", document=row) for row in range(20)]
    splits = {"train": train, "validation": [annotated(".x")], "test": [annotated("..")]}
    found = share_out(splits)
    assert found["test"] == splits["validation"] and len(found["validation"]) == 2
    assert sorted(text.document for text in found["train"] + found["validation"]) == list(range(20))
    official = splits | {"test": [annotated("x.")]}
    assert share_out(official) == official


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": []}, "no split validation; found train"),
        ({}, "no split train and no validation; found none"),
        (
            {"train": [], "validation": [annotated("..")]},
            "neither test nor validation has rationales",
        ),
    ],
)
def test_splits_that_do_not_serve_are_refused(splits, message):
    with pytest.raises(ValueError, match=message):
        share_out(splits)


def test_agreement_is_the_mean_over_the_windows():
    windows = [annotated("x..."), annotated(".x")]
    scores = [np.array([0.4, 0.4, 0.1, 0.1]), np.array([0.9, 0.1])]
    found = agreement(scores, windows)
    assert found == {
        "average_precision": pytest.approx((1 / 2 + 1 / 2) / 2),
        "false_positive_rate": pytest.approx((1 / 3 + 1) / 2),
        "chosen_share": pytest.approx((1 / 2 + 1 / 2) / 2),
    }
    hard = hard_scores(scores, windows, share=0.5)
    assert hard["token_f1"] == pytest.approx((2 / 3 + 0) / 2) and hard["iou_f1"] == 0.5


def test_rows_tell_what_was_kept():
    scores = {
        "adapler": [np.ones((2, 4))],
        "kept": [np.array([[1, 1, 1, 0], [1, 0, 0, 0]])],
        "random": [np.ones((2, 4))],
    }
    rows = layer_rows(scores, [annotated("x...")])
    assert [row.get("kept_share") for row in rows] == [0.75, 0.25, None, None]


class WordCounter:
    """Answers with twice the share of w0 in a text, of two classes."""

    def predict_probs(self, texts):
        shares = [2 * text.split().count("w0") / max(1, len(text.split())) for text in texts]
        return np.array([[share, 1 - share] for share in shares])


def test_faithful_scores_are_comprehensive_and_sufficient():
    windows = [annotated("x.")]
    best, worst = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    scores = {name: [best] for name in ("adapler", "attention", "rollout", "saliency")} | {
        "random": [worst]
    }
    rows = {
        row["method"]: row for row in eraser_rows(scores, windows, 0.5, {"dense": WordCounter()})
    }
    # One of two words is one of every share; without w0 the answer has probability 0, by it alone
    # more than before.
    assert rows["attention"]["comprehensiveness"] == pytest.approx(1.0)
    assert rows["attention"]["sufficiency"] == pytest.approx(1.0 - 2.0)
    assert rows["random"]["comprehensiveness"] == pytest.approx(1.0 - 2.0)
    assert rows["random"]["sufficiency"] == pytest.approx(1.0) and rows["random"]["token_f1"] == 0.0
    assert rows["attention"]["token_f1"] == rows["attention"]["auprc"] == 1.0
    assert some_words(annotated("x........."), np.arange(10) > 7) == "w8 w9"


def test_the_picture_is_drawn(tmp_path):
    rows = [
        {
            "method": method,
            "layer": layer,
            "predictor": None,
            "average_precision": 0.3,
            "average_precision_sd": None,
            "false_positive_rate": 0.1,
            "false_positive_rate_sd": 0.01,
        }
        for method in plot_rationales.STYLES
        for layer in range(3)
    ]
    plot_rationales.plot_layers([*rows, rows[0] | {"layer": None}], tmp_path / "lines.png")
    assert (tmp_path / "lines.png").stat().st_size > 10_000
