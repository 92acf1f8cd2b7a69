"""Prepare text for a tokenizer."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def replace_lone_surrogates(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate; offsets stay the same.

    Cut JSON escapes leave lone surrogates. Tokenizers, hashes and terminals reject them.
    """
    return _SURROGATE.sub("\ufffd", text)
