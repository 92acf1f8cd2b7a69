"""Numbers in docs/faq.md are in the measured tables or the configs, which quote the records."""

import re

from tests.docs.commands import FENCE, ROOT

TABLES = (
    "README.md",
    "docs/measurements.md",
    "docs/methods.md",
    "docs/serving.md",
    "docs/your-data.md",
    "docs/choose-a-speed.md",
    "configs/adapler.py",
)
SOURCES = "\n".join((ROOT / name).read_text() for name in TABLES)
TEXT = FENCE.sub("", (ROOT / "docs" / "faq.md").read_text())


def test_every_number_of_the_answers_is_in_a_table_or_a_config():
    numbers = {number.rstrip(".,") for number in re.findall(r"\d[\d,]*\.?\d*", TEXT)}
    assert len(numbers) > 40
    missing = {
        number
        for number in numbers
        if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", SOURCES)
    }
    assert not missing


def test_every_question_has_an_answer():
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert len(parts) > 10 and all(len(part.splitlines()[0]) < len(part) - 40 for part in parts)
