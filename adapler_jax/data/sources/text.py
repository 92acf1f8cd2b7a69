"""What has to be done to a text before a tokenizer may see it."""

import re

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def replace_lone_surrogates(text: str) -> str:
    """Return the text with lone surrogates replaced by U+FFFD, so that it can be encoded; places stay the same.

    Cut JSON escapes leave such halves of characters; tokenizers, hashes and terminals refuse them.
    """
    return _HALF_CHARACTER.sub("\ufffd", text)
