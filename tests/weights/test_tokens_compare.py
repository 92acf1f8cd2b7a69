"""transformers gives equal tags: of its own folders, and of the folders saved here."""

import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

import safetensors.numpy  # noqa: E402

from adapler_jax.data.batching.padding import pad_batch  # noqa: E402
from adapler_jax.inference.entities import AGGREGATIONS  # noqa: E402
from adapler_jax.inference.token_classifier import TokenClassifier  # noqa: E402
from adapler_jax.weights.folders import load_folder  # noqa: E402
from adapler_jax.weights.save import save_model  # noqa: E402
from tests.weights.test_saved_compare import start  # noqa: E402

pytestmark = [
    pytest.mark.compare,
    pytest.mark.filterwarnings("ignore:Tokenizer does not support real words"),
]
NAMES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC", 5: "MISC"}
MAX_LENGTH = 20
TEXTS = [
    "a good film .",
    "bad",
    "",
    "The plot is thin , and the CAST is goodish 日 unplotted filmcasts",
    "is thin the good thing but a plot ? bad cast is the cast " * 3,
]
FAMILIES = ("bert", "roberta", "distilbert")


@pytest.fixture(scope="module", params=FAMILIES, name="models")
def _models(request, tmp_path_factory):
    """Return ours and their pipeline of one random checkpoint, and the folder."""
    folder = tmp_path_factory.mktemp(request.param)
    start(folder, request.param, "TokenClassification", id2label=NAMES)
    spread(folder / "model.safetensors")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"model_max_length": MAX_LENGTH}
    if request.param == "roberta":  # without it transformers takes no words
        settings |= {"add_prefix_space": True, "tokenizer_class": "RobertaTokenizer"}
    path.write_text(json.dumps(settings))
    return TokenClassifier.load(folder, driver="masked"), pipeline(folder), folder


def spread(path):
    """Give a checkpoint weights by which the tokens of a text have several tags."""
    tensors = safetensors.numpy.load_file(path)
    for name, value in tensors.items():
        if "word_embeddings" in name:
            tensors[name] = 3 * value
    tensors["classifier.bias"][0] -= 2.0  # of the tag O, which random weights give too often
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


def pipeline(folder):
    """Return transformers' pipeline of a folder."""
    return transformers.pipeline("token-classification", model=str(folder), device="cpu")


def assert_equal_entities(found, expected):
    """Lists of dicts with close scores, and all else equal."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.pop("score") == pytest.approx(theirs.pop("score"), abs=1e-5)
        assert ours == theirs


def test_logits_are_equal(models):
    ours, theirs, _ = models
    inputs = theirs.tokenizer(TEXTS, truncation=True, padding=True, return_tensors="pt")
    exact = copy.deepcopy(theirs.model).double()  # float32 of both would differ by their sum
    with torch.no_grad():
        logits = exact(**inputs).logits.numpy()
    rows = ours.encode(TEXTS)
    batch = pad_batch([row.token_L for row in rows], [row.segment_L for row in rows], length=20)
    found = np.asarray(ours.run(ours.params, batch)[0])
    for row, valid_L in enumerate(batch.valid_BL):
        expected = logits[row, : valid_L.sum()]
        np.testing.assert_allclose(found[row, valid_L], expected, atol=1e-5, rtol=1e-5)
    assert ours.max_length == MAX_LENGTH and ours.class_names == tuple(NAMES.values())


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_entities_are_equal(models, aggregation):
    ours, theirs, _ = models
    found, total = ours.predict(TEXTS, aggregation=aggregation), 0
    for text, entities in zip(TEXTS, found):
        total += len(entities)
        assert_equal_entities(entities, theirs(text, aggregation_strategy=aggregation))
    assert total > 5
    words = [text.split() for text in TEXTS if text]
    for sentence, entities in zip(words, ours.predict(words, aggregation=aggregation)):
        options = {"aggregation_strategy": aggregation, "is_split_into_words": True}
        assert_equal_entities(entities, theirs(sentence, **options)[0])


def test_a_word_has_the_tag_of_its_first_token(models):
    ours, theirs, _ = models
    words = [text.split() for text in TEXTS if text]
    for sentence, tags in zip(words, ours.predict(words)):
        options = {"is_split_into_words": True, "ignore_labels": []}
        tokens = theirs(sentence, **options)[0]
        first = {}
        for token in tokens:
            start = next(tag["start"] for tag in tags if tag["end"] >= token["end"])
            first.setdefault(start, token["entity"])
        assert [tag["entity"] for tag in tags] == [first.get(tag["start"]) for tag in tags]
        assert [tag["word"] for tag in tags] == sentence


def test_a_folder_saved_here_runs_in_transformers(models, tmp_path):
    ours, _, folder = models
    source = load_folder(folder)
    saved = save_model(
        tmp_path / "model",
        source.params,
        source.config,
        head=source.head,
        class_names=source.class_names,
        max_length=source.max_length,
        tokenizer=folder,
    )
    theirs = pipeline(saved)
    assert theirs.model.config.id2label == NAMES
    for text, entities in zip(TEXTS, ours.predict(TEXTS, aggregation="none")):
        assert_equal_entities(entities, theirs(text))
    again = TokenClassifier.load(saved, driver="packed").predict(TEXTS, aggregation="none")
    for entities, expected in zip(again, ours.predict(TEXTS, aggregation="none")):
        assert_equal_entities(entities, expected)
