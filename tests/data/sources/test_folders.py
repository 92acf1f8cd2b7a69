"""Folders of texts and saved data sets are tables; links out of them raise an error."""

import shutil

import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.sources.files import load_files
from adapler_jax.data.sources.load import load_source
from tests.data.sources.plain_rows import write


def texts_of_classes(root, *parts):
    for part in parts:
        for name in ("neg", "pos"):
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                write(root / part / name / f"{number}.txt", f"{name} {number} é")


def test_a_folder_of_texts_a_class_is_a_table(tmp_path):
    texts_of_classes(tmp_path / "aclImdb", "train", "test")
    (tmp_path / "aclImdb" / "train" / "unsup").mkdir()
    write(tmp_path / "aclImdb" / "train" / "unsup" / "0.txt", "no class")
    data = load_task(
        "imdb", source=f"file:{tmp_path / 'aclImdb'}", split_fractions={"validation": 2}
    )
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 6,
    }
    assert any("unsup is left out" in note for note in data.notes)
    texts_of_classes(tmp_path / "flat", ".")
    assert load_files(str(tmp_path / "flat"))["train"].columns["label"] == ["neg"] * 3 + ["pos"] * 3


@pytest.mark.parametrize("is_folder", [False, True])
def test_links_out_of_class_folders_raise(tmp_path, is_folder):
    texts_of_classes(tmp_path / "data", ".")
    write(tmp_path / "secret.txt", "secret")
    (tmp_path / "away").mkdir()
    write(tmp_path / "away" / "1.txt", "secret")
    link, target = (
        ("more", tmp_path / "away") if is_folder else ("pos/9.txt", tmp_path / "secret.txt")
    )
    (tmp_path / "data" / link).symlink_to(target)
    with pytest.raises(ValueError, match=r"which is outside of .*data"):
        load_files(str(tmp_path / "data"))
    (tmp_path / "data" / link).unlink()
    (tmp_path / "link").symlink_to(
        tmp_path / "data"
    )  # the folder that a user names may be a link itself
    assert len(load_files(str(tmp_path / "link"))["train"]) == 6


@pytest.mark.parametrize("link", ["train", "train.csv", "train/neg"])
def test_links_out_of_the_named_folder_raise_one_level_up(tmp_path, link):
    texts_of_classes(tmp_path / "away", ".")
    write(tmp_path / "away" / "train.csv", "text,label\nsecret,1\n")
    if link == "train/neg":
        texts_of_classes(tmp_path / "data", "train")
        shutil.rmtree(tmp_path / "data" / link)
    else:
        (tmp_path / "data").mkdir()
    target = {"train": ".", "train.csv": "train.csv", "train/neg": "neg"}[link]
    (tmp_path / "data" / link).symlink_to(tmp_path / "away" / target)
    with pytest.raises(ValueError, match=r"which is outside of .*data'"):
        load_files(str(tmp_path / "data"))
    given = tmp_path / "data" / link.partition("/")[0]  # a path that a user gives may be a link
    if link != "train/neg":
        assert load_files(str(given))["train"].columns["text"]


def test_links_of_the_hubs_cache_lead_to_its_blobs(tmp_path):
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "1f"
    snapshot.mkdir(parents=True)
    write(tmp_path / "datasets--a--b" / "blobs" / "0a", "text,label\na,1\n")
    (snapshot / "train.csv").symlink_to("../../blobs/0a")
    assert load_files(str(snapshot))["train"].columns["text"] == ["a"]
    write(tmp_path / "other" / "blobs" / "0a", "text,label\nb,1\n")
    (snapshot / "test.csv").symlink_to(tmp_path / "other" / "blobs" / "0a")
    with pytest.raises(ValueError, match=r"test.csv', which is outside of"):
        load_files(str(snapshot))


def test_links_out_of_a_saved_data_set_raise(tmp_path):
    write(tmp_path / "saved" / "state.json", "{}")
    write(tmp_path / "away.arrow", "secret")
    (tmp_path / "saved" / "data.arrow").symlink_to(tmp_path / "away.arrow")
    with pytest.raises(ValueError, match=r"data.arrow', which is outside of"):
        load_source(f"file:{tmp_path / 'saved'}")


def test_a_saved_data_set_is_a_file_source_with_class_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    rows = datasets.Dataset.from_dict(
        {"text": list("abcd"), "label": [1, 0, 1, 0]}, features=features
    )
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    for kind in ("file", "hf"):
        tables = load_source(f"{kind}:{tmp_path / 'saved'}")
        assert tables["train"].class_names == {"label": ("bad", "good")}
    assert load_task(
        "custom", source=f"file:{tmp_path / 'saved'}", split_fractions={}
    ).task.class_names == (
        "bad",
        "good",
    )
