"""Check that a folder that is no model raises one line."""

import jax
import pytest

from adapler_jax.io.messages import MAX_MESSAGE

KEY = jax.random.key(0)


def refused(load, *args, match, **options):
    """Assert that a call ends in a ValueError of one line."""
    with pytest.raises(ValueError, match=match) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert len(message) <= MAX_MESSAGE and message.isprintable()
