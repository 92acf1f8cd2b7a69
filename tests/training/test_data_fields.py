"""Fields of text files reach the reader, and are rejected for questions."""

import pytest

from adapler_jax.data.sources.formats import Options
from adapler_jax.presets.common import base_config
from adapler_jax.training.task_data import load_questions
from adapler_jax.training.text_tasks import file_options, load_data


def test_fields_of_text_files_reach_the_reader(tmp_path):
    (tmp_path / "a.csv").write_text("text:label\ncafé:1\nb:0\n:1\n", encoding="latin-1")
    config = base_config()
    config.task = "custom"
    config.data.source = f"file:{tmp_path}/a.csv"
    config.data.split_fractions = {"validation": 1}
    config.data.update(encoding="latin-1", delimiter=":", skip_incomplete=True)
    data = load_data(config)
    assert sorted(text for part in data.splits.values() for text in part.texts) == ["b", "café"]
    assert any("1 of 3 rows are left out" in note for note in data.notes)


def test_configs_of_earlier_versions_have_no_such_fields():
    config = base_config()
    del config.data.encoding, config.data.delimiter
    assert file_options(config) == Options()


@pytest.mark.parametrize("field", ["encoding", "delimiter", "skip_incomplete"])
def test_fields_of_text_files_are_refused_for_questions(field, tmp_path):
    config = base_config()
    config.task = "custom_span"
    config.data[field] = True if field == "skip_incomplete" else ";"
    with pytest.raises(
        ValueError, match=f"config.data.{field} is given, but task 'custom_span' has questions"
    ):
        load_questions(config, tmp_path)
