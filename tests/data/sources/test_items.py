"""Items are read one by one from lists that no one holds whole; what is malformed is named."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies

from adapler_jax.data.sources import json_values
from adapler_jax.data.sources.items import open_items, split_file

_ROOT = str(pathlib.Path(__file__).parents[2])
VALUES = strategies.recursive(
    strategies.none() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3),
)


def write(folder, text, name="train.json"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path):
    return [item for _, item in open_items(path)]


@settings(deadline=None, max_examples=30)
@given(
    values=strategies.lists(VALUES, max_size=5),
    indent=strategies.sampled_from([None, 1]),
    size=strategies.integers(1, 9),
)
def test_a_list_in_chunks_gives_the_items_of_the_whole_list(tmp_path_factory, values, indent, size):
    path = write(
        tmp_path_factory.mktemp("list"),
        "\ufeff " + json.dumps(values, indent=indent, ensure_ascii=False) + " \n",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "CHARACTERS", size)
        assert read(path) == values


def test_a_list_is_read_no_further_than_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(json_values, "CHARACTERS", 16)
    found = open_items(write(tmp_path, '[{"a": 1}, {"b": 2}, {"c": 3}, ' + "x" * 100))
    assert [next(found)[1], next(found)[1]] == [{"a": 1}, {"b": 2}]


def test_lines_and_single_objects_are_items(tmp_path):
    lines = write(tmp_path, '{"a": "one\u2028line"}\n\n[1]\n', "train.jsonl")
    assert list(open_items(lines)) == [
        (f"{lines}: line 1", {"a": "one\u2028line"}),
        (f"{lines}: line 3", [1]),
    ]
    assert read(write(tmp_path, '{"a": 1}\n\n{"b": 2}\n')) == [{"a": 1}, {"b": 2}]
    whole = write(tmp_path, '{"a":\n 1}', "1.txt")
    assert list(open_items(whole)) == [(f"{whole}: item 1", {"a": 1})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "item 2 is not JSON: the list has no end"),
        ("[[1], [2", "item 2 is not JSON: Expecting"),
        ("[1 2]", "item 2 is not JSON: expected ',' or ']'"),
        ("[1, }]", "item 2 is not JSON: Expecting value"),
        ("[1] 2", "continues after its list"),
        ('{"a": }', "is not JSON: Expecting value at line 1, column 7"),
        ("", "is not JSON"),
        (b'["\xff"]', "is not UTF-8 at byte 2"),
        ("[" * 100_000, "is not JSON: maximum recursion"),
    ],
)
def test_errors_of_malformed_lists_name_the_item(tmp_path, text, message):
    with pytest.raises(ValueError, match=message.replace("]", "\\]")):
        read(write(tmp_path, text))


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["train.json", "dev.json"], "validation", "dev.json"),
        (["train.json", "train.masked.json"], "train", "train.json"),
        (
            ["hotpot_train_v1.1.json", "hotpot_dev_distractor_v1.json"],
            "validation",
            "hotpot_dev_distractor_v1.json",
        ),
        (["hotpot_dev_distractor_v1.json", "hotpot_dev_fullwiki_v1.json"], "validation", None),
        (["dev_distractor.json", "train.json"], "validation", "dev_distractor.json"),
        (
            ["validation_matched.json", "validation.json"],
            "validation_matched",
            "validation_matched.json",
        ),
        (["train.csv", "reviews.json"], "train", None),
        ([], "test", None),
    ],
)
def test_the_file_of_a_split_is_found_by_its_name(tmp_path, names, split, found):
    for name in names:
        write(tmp_path, "[]", name)
    if found:
        assert split_file(str(tmp_path), split, [".json"]) == tmp_path / found
    else:
        with pytest.raises(ValueError, match=f"expected one {split} file: name the file itself"):
            split_file(str(tmp_path), split, [".json"])


def test_a_file_is_the_split_that_its_name_says(tmp_path):
    dev, reviews = write(tmp_path, "[]", "hotpot_dev.json"), write(tmp_path, "[]", "reviews.json")
    assert split_file(str(dev), "validation", [".json"]) == dev
    assert split_file(str(reviews), "train", [".json"]) == reviews
    matched = write(tmp_path, "[]", "validation_matched.json")
    for split in ("validation", "validation_matched"):
        assert split_file(str(matched), split, [".json"]) == matched
    with pytest.raises(ValueError, match="is the split 'validation' by its name; asked: 'train'"):
        split_file(str(dev), "train", [".json"])
    with pytest.raises(ValueError, match="no file or folder"):
        split_file(str(tmp_path / "none"), "train", [".json"])


_TFDS_PROGRAM = """
import sys
import tensorflow_datasets as tfds
from adapler_jax.data.qa.multiple_choice import MultipleChoiceQuestion
from adapler_jax.data.qa.multiple_choice_files import stream_multiple_choice

class TinyRace(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="high")]
    def _info(self):
        text = tfds.features.Text()
        several = tfds.features.Sequence(text)
        features = {"article": text, "questions": several, "answers": several, "example_id": text}
        features["options"] = tfds.features.Sequence(tfds.features.Sequence(text))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(2), "dev": self._generate_examples(1)}
    def _generate_examples(self, count):
        for row in range(count):
            options = [["\\u65e5", "b"], ["c d", ""]]
            fields = {"article": "\\u00e9", "questions": ["q _", "r"], "answers": ["B", "A"]}
            yield row, fields | {"options": options, "example_id": f"high{row}.txt"}

try:
    stream_multiple_choice("tfds:tiny_race/high", split="validation")
except ValueError as error:
    assert "prepare it once where TensorFlow is installed and set TFDS_DATA_DIR" in str(error)
TensorInfo = type(tfds.features.Text().get_tensor_info())
TensorInfo.dtype = property(lambda info: info.np_dtype)  # all that preparing takes from TensorFlow
found = list(stream_multiple_choice("tfds:tiny_race/high", split="validation"))
assert found == [
    MultipleChoiceQuestion("high0.txt-0", "\\u00e9", "q _", ("\\u65e5", "b"), 1),
    MultipleChoiceQuestion("high0.txt-1", "\\u00e9", "r", ("c d", ""), 0),
], found
assert len(list(stream_multiple_choice("tfds:tiny_race/high", split="train"))) == 4
try:
    stream_multiple_choice("tfds:tiny_race/high", split="test")
except ValueError as error:
    assert "unknown split 'test'; known: train, dev" in str(error)
try:
    stream_multiple_choice("tfds:no_such_dataset_anywhere", split="test")
except ValueError as error:
    assert "tensorflow-datasets cannot give 'no_such_dataset_anywhere'" in str(error)
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
print("fine")
"""


def test_race_of_tensorflow_datasets_is_read_without_tensorflow(tmp_path):
    program = (
        "-c",
        _TFDS_PROGRAM,
    )  # a command: the builder's class then has no file that is looked for
    environment = os.environ | {
        "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        "PYTHONPATH": _ROOT,
        "TQDM_DISABLE": "1",
    }
    result = subprocess.run(
        [sys.executable, *program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().endswith("fine")
