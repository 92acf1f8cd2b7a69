"""The pictures of docs/how-it-works.md show their numbers; `make docs` draws them."""

import json
import re
import runpy

import numpy as np
import pytest

from adapler_jax.inference.explanation import Explanation
from adapler_jax.inference.prediction import Prediction
from configs import adapler
from tests.docs.commands import ROOT

PICTURES = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
PAGE = ROOT / "docs" / "how-it-works.md"


def make_explanation(keep_NL, *, text="nine words " * 5, label="good"):
    keep_NL = np.array(keep_NL, bool)
    prediction = Prediction(
        texts=(text,),
        label=label,
        probability=0.9,
        probabilities={label: 0.9},
        words=(),
        keep_NW=np.zeros((len(keep_NL), 0), bool),
        num_tokens=tuple(keep_NL.sum(axis=-1).tolist()),
    )
    entering_NL = np.concatenate([np.ones_like(keep_NL[:1]), keep_NL[:-1]])
    return Explanation(
        prediction,
        ("[CLS]", "a", "film", "[SEP]"),
        word_L=np.array([-1, 0, 1, -1]),
        keep_NL=keep_NL,
        score_NL=entering_NL / entering_NL.sum(axis=-1, keepdims=True),
        site_layers=(0, 1),
    )


SHOWN = make_explanation([[1, 1, 1, 0], [1, 0, 0, 0]])


def test_thresholds_are_eta_over_the_tokens_that_enter():
    np.testing.assert_allclose(PICTURES["thresholds_of"](SHOWN, [0.8, 0.6]), [0.8 / 4, 0.6 / 3])


def test_the_layer_shown_drops_most_tokens():
    assert PICTURES["busiest_layer"](SHOWN) == 1


def test_the_text_shown_is_labelled_correctly_and_of_readable_length():
    choose = PICTURES["choose"]
    short, wrong = (
        make_explanation(SHOWN.keep_NL, text="too short"),
        make_explanation(SHOWN.keep_NL, label="bad"),
    )
    assert choose([short, wrong, SHOWN], ["good"] * 3) is SHOWN
    with pytest.raises(ValueError, match="give one by --text"):
        choose([short, wrong], ["good"] * 2)


def test_slopes_follow_the_schedule_of_the_run():
    slopes = PICTURES["slopes_of"](adapler.get_config("sst2").adapler)
    assert (
        slopes[0] == pytest.approx(10.0)
        and slopes[-1] == pytest.approx(1000.0)
        and slopes == sorted(slopes)
    )


def test_points_of_the_record_are_fractions_of_the_dense_model():
    record = json.loads((ROOT / "benchmarks" / "results" / "engines-minilm.json").read_text())
    points = PICTURES["driver_points"](record["rows"], batch=32, length=128, dtype="float32")
    assert set(points) == {"bucketed", "packed"}
    assert all(len(found) > 2 and np.all((found > 0) & (found < 130)) for found in points.values())


def test_every_picture_is_shown_by_the_page_and_drawn_by_the_script():
    shown = set(re.findall(r"\(pictures/(\w+\.png)\)", PAGE.read_text()))
    drawn = set(re.findall(r'"(\w+\.png)"', (ROOT / "docs" / "pictures.py").read_text()))
    assert shown == drawn == {path.name for path in (ROOT / "docs" / "pictures").glob("*.png")}


def test_all_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    pyplot = PICTURES["load_pyplot"]()
    PICTURES["draw_words"](pyplot, SHOWN, tmp_path / "1.png")
    assert PICTURES["draw_scores"](pyplot, SHOWN, [0.8, 0.6], tmp_path / "2.png") == 1
    PICTURES["draw_removal"](pyplot, [10.0, 100.0, 300.0, 1000.0], 0.05, tmp_path / "3.png")
    PICTURES["draw_counts"](
        pyplot, np.array([[3, 1], [5, 2]]), np.array([4, 9]), tmp_path / "4.png"
    )
    PICTURES["draw_seconds"](
        pyplot, {"packed": np.array([[100, 90], [50, 40]])}, "title", tmp_path / "5.png"
    )
    assert len(list(tmp_path.glob("*.png"))) == 5
