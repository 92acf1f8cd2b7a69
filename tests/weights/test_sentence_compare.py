"""sentence-transformers gives equal vectors: of its own folders, and of the folders saved here."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
)
sentence_transformers = pytest.importorskip("sentence_transformers")

from sentence_transformers.base.modules import Dense, Normalize, Transformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling  # noqa: E402

from adapler_jax.inference.embedder import Embedder  # noqa: E402
from adapler_jax.weights.folders import load_folder  # noqa: E402
from adapler_jax.weights.save import save_model  # noqa: E402
from tests.weights.test_saved_compare import MAX_LENGTH, TEXTS, start  # noqa: E402

pytestmark = pytest.mark.compare
KINDS = dict.fromkeys(("bert", "xlm-roberta", "distilbert", "electra", "mpnet"), "MaskedLM")
ACTIVATIONS = {"tanh": torch.nn.Tanh(), "identity": torch.nn.Identity()}


def make_foreign(folder, family, pooling, dense, *, normalizes, prompts=None):
    """Write a random model of sentence-transformers, and return it with its folder."""
    source = start(folder / "start", family, KINDS[family])
    modules = [Transformer(str(source), max_seq_length=MAX_LENGTH), Pooling(16, pooling)]
    torch.manual_seed(3)
    if dense:
        layer = Dense(16, 6, activation_function=ACTIVATIONS[dense])
        torch.nn.init.normal_(layer.linear.bias)
        modules.append(layer)
    modules += [Normalize()] if normalizes else []
    theirs = sentence_transformers.SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts
    )
    theirs.save(str(folder / "theirs"))
    return theirs, folder / "theirs"


@pytest.mark.parametrize(
    ("family", "pooling", "dense", "normalizes"),
    [
        ("bert", "mean", None, True),
        ("bert", "cls", "tanh", True),
        ("xlm-roberta", "mean", "identity", True),
        ("distilbert", "cls", None, False),
        ("distilbert", "mean", "tanh", False),
        ("electra", "mean", None, True),
        ("mpnet", "mean", None, True),
        ("mpnet", "cls", "tanh", False),
    ],
)
def test_vectors_are_equal_in_both_directions(tmp_path, family, pooling, dense, normalizes):
    theirs, folder = make_foreign(tmp_path, family, pooling, dense, normalizes=normalizes)
    expected = theirs.encode(TEXTS)
    ours = Embedder.load(folder, driver="masked")
    assert ours.max_length == MAX_LENGTH and np.ptp(expected, axis=0).max() > 1e-3
    np.testing.assert_allclose(ours.encode(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(
        ours.encode(TEXTS, normalize_embeddings=True, truncate_dim=4),
        theirs.encode(TEXTS, normalize_embeddings=True, truncate_dim=4),
        atol=1e-5,
    )
    saved = load_folder(folder)
    again = save_model(
        tmp_path / "ours",
        saved.params,
        saved.config,
        head=saved.head,
        max_length=saved.max_length,
        tokenizer=folder,
        extra=saved.extra,
    )
    read = sentence_transformers.SentenceTransformer(str(again), device="cpu")
    np.testing.assert_allclose(read.encode(TEXTS), expected, atol=1e-5)


def test_prompts_are_equal(tmp_path):
    prompts = {"query": "the cast ", "document": "the plot "}
    theirs, folder = make_foreign(tmp_path, "bert", "mean", None, normalizes=True, prompts=prompts)
    ours = Embedder.load(folder, driver="masked")
    for name in prompts:
        expected = theirs.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(ours.encode(TEXTS, prompt_name=name), expected, atol=1e-5)
    found = ours.similarity(ours.encode(TEXTS), ours.encode(TEXTS[:2]))
    expected = theirs.similarity(theirs.encode(TEXTS), theirs.encode(TEXTS[:2]))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
