"""Numbers in docs/faq.md are those of the README and of the configs' docstrings, which come from the records."""

import re

from tests.docs.commands import FENCE, ROOT

SOURCES = (ROOT / "README.md").read_text() + (ROOT / "configs" / "adapler.py").read_text()
TEXT = FENCE.sub("", (ROOT / "docs" / "faq.md").read_text())


def test_every_number_of_the_answers_stands_in_the_readme_or_a_config():
    numbers = {number.rstrip(".,") for number in re.findall(r"\d[\d,]*\.?\d*", TEXT)}
    assert len(numbers) > 40
    missing = {number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", SOURCES)}
    assert not missing


def test_every_question_has_an_answer():
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert len(parts) > 10 and all(len(part.splitlines()[0]) < len(part) - 40 for part in parts)
