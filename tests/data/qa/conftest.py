"""Share two tokenizers of tiny vocabularies."""

import pytest

from tests.data.conftest import build_tokenizer
from tests.data.qa.small_windows import LETTERS, SPECIAL


@pytest.fixture(scope="module", name="letters")
def _letters():
    """Single letters are words."""
    return build_tokenizer((*SPECIAL, *LETTERS)).backend_tokenizer


@pytest.fixture(scope="module", name="scripts")
def _scripts():
    """Return a tokenizer of one-letter pieces, Chinese characters and a picture; no accents."""
    pieces = [mark + letter for letter in "exo" for mark in ("", "##")]
    return build_tokenizer((*SPECIAL, *pieces, "日", "本", "🎬", "##🎬", ".")).backend_tokenizer
