"""An exported reader finds the answers of the library's own, without JAX."""

import subprocess
import sys

import pytest

import adapler_jax
from adapler_jax import onnx as runtime
from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.heads import SPAN
from adapler_jax.inference.question_answerer import QuestionAnswerer
from tests.export.onnx_models import save_tiny

LIMITS = {"doc_stride": 4, "max_question_tokens": 3, "max_answer_tokens": 3, "n_best_size": 4}
PAIRS = [
    ("w1 w2", "w3 w4 w5"),
    ("w6", "w7 w8 w9 " * 9),
    ("w1 w2 w3 w4", "w5 w6"),
    ("w1", ""),
    ("", "w2 w3"),
]


@pytest.fixture(scope="module", name="directory")
def _directory(tmp_path_factory):
    """A model that drops tokens, with its file."""
    extra = {"qa": LIMITS, "no_answer_threshold": 0.0}
    directory = save_tiny(
        tmp_path_factory.mktemp("reader") / "model",
        "adapler",
        head=SPAN,
        max_length=12,
        extra=extra,
    )
    export_onnx(directory)
    return directory


@pytest.fixture(scope="module", name="exported")
def _exported(directory):
    return runtime.QuestionAnswerer.load(directory, num_threads=1)


def test_answers_and_kept_words_are_those_of_the_library(directory, exported):
    expected = QuestionAnswerer.load(directory, driver="masked").answer_all(PAIRS, batch_size=4)
    found = exported.answer_all(PAIRS, batch_size=2)
    assert [one.text for one in found] == [one.text for one in expected]
    for one, other in zip(found, expected):
        assert (one.start, one.end, one.is_cut) == (other.start, other.end, other.is_cut)
        assert one.kept_words == other.kept_words
        assert [answer[:1] for answer in one.answers] == [answer[:1] for answer in other.answers]
        for left, right in zip(one.answers, other.answers):
            assert left.score == pytest.approx(right.score, abs=1e-4)
            assert left.probability == pytest.approx(right.probability, abs=1e-4)
    assert any(len(one.kept_words[-1]) < len(one.words) for one in found)
    assert [one.text for one in exported.stream(iter(PAIRS), batch_size=2)] == [
        one.text for one in found
    ]


def test_no_answer_is_the_answer_unless_the_caller_always_wants_one(directory, exported):
    always = runtime.QuestionAnswerer.load(directory, always_answers=True)
    found = [(exported.answer(*pair), always.answer(*pair)) for pair in PAIRS]
    assert any(own.text == "" != other.text for own, other in found)
    assert all(other.text for (_, context), (_, other) in zip(PAIRS, found) if context)


def test_wrong_pairs_and_files_of_other_tasks_are_named(directory, exported, tmp_path):
    with pytest.raises(TypeError, match="pair 0 is 'who'; expected"):
        exported.answer_all(["who"])
    with pytest.raises(ValueError, match="batch_size is 0"):
        exported.answer_all(PAIRS, batch_size=0)
    with pytest.raises(ValueError, match="does not classify texts; load it with QuestionAnswerer"):
        runtime.Classifier.load(directory)
    classifier = save_tiny(tmp_path / "classifier", "keep_all", class_names=("no", "so", "yes"))
    export_onnx(classifier)
    with pytest.raises(ValueError, match="answers no questions about texts; load it with Classif"):
        runtime.QuestionAnswerer.load(classifier)
    bare = save_tiny(tmp_path / "bare", "keep_all", head=SPAN)
    export_onnx(bare)
    with pytest.raises(ValueError, match="about texts; if it finds answers in texts, export"):
        runtime.QuestionAnswerer.load(bare)


def test_answers_need_no_jax(directory):
    code = (
        "import sys; from adapler_jax.onnx import QuestionAnswerer as Q; "
        f"print(Q.load({str(directory)!r}).answer('w1', 'w2 w3').text); "
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.compare
def test_openvino_gives_equal_answers(directory, exported):
    pytest.importorskip("openvino")
    adapler_jax.export_openvino(directory)
    found = runtime.QuestionAnswerer.load(directory, engine="openvino").answer_all(PAIRS)
    assert [one.text for one in found] == [one.text for one in exported.answer_all(PAIRS)]
