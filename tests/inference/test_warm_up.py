"""After a warm-up no request compiles."""

import numpy as np
import pytest

from adapler_jax.export.jax_export import export_model
from adapler_jax.inference import engine
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import Engine
from benchmarks.compilations import compilations
from tests.inference.test_classifier import WORDS, make_model

NUM_REQUESTS = 200  # each number of texts, pairs included, many times


def random_requests(count, batch_size):
    """Yield lists of texts from empty to three times the model's length; a tenth are pairs."""
    rng = np.random.default_rng(0)
    words = WORDS[5:]
    for _ in range(count):
        lengths = rng.choice([0, 1, 2, 5, 9, 14, 15, 48], rng.integers(1, batch_size + 1))
        texts = [" ".join(rng.choice(words, length)) for length in lengths]
        yield [(text, "good") for text in texts] if rng.random() < 0.1 else texts


def check_requests(classifier, count, *, batch_size):
    with compilations() as found:
        assert classifier.warm_up(batch_size) > 0
    assert found
    with compilations() as found:
        for texts in random_requests(count, batch_size):
            assert len(classifier.predict(texts, batch_size=batch_size)) == len(texts)
    assert found == []


@pytest.mark.long
def test_random_requests_compile_nothing_after_a_warm_up(tmp_path):
    classifier = Classifier.load(make_model(tmp_path / "model", "adapler"), buckets=(16,))
    check_requests(classifier, NUM_REQUESTS, batch_size=3)  # batches of 1, 2 and 3 rows


@pytest.mark.long
@pytest.mark.parametrize("exported", [False, True])
def test_several_padded_lengths_are_warmed_up(tmp_path, exported):
    directory = make_model(tmp_path / "model", "keep_all", max_length=20)
    if exported:
        export_model(directory)
    classifier = Classifier.load(directory, programs=exported)
    assert isinstance(classifier.run, Engine) != exported and len(classifier.lengths) > 1
    check_requests(classifier, 40, batch_size=2)


@pytest.mark.long
def test_batches_in_two_threads_are_warmed_up(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "MIN_SPLIT", 2)
    classifier = Classifier.load(make_model(tmp_path / "model", "adapler"), driver="packed")
    check_requests(classifier, 40, batch_size=3)  # halves of one and of two rows


def test_a_bad_batch_size_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 0"):
        Classifier.load(make_model(tmp_path / "model", "adapler")).warm_up(0)
