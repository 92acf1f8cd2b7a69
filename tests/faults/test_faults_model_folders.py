"""The seeds of the fuzz of model folders load, and its check finds what is not documented."""

import pytest

from tests.faults import model_folders


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """One folder of each kind by name."""
    found = model_folders.seed_folders(tmp_path_factory.mktemp("seeds"))
    return {folder.name: folder for folder in found}


def test_every_seed_is_read_by_the_loader_that_it_is_for(seeds):
    assert seeds.keys() == {"bert", "distilbert", "hotpot", "ours", "reader", "roberta", "sharded"}
    for name, folder in seeds.items():
        ours = name in ("distilbert", "hotpot", "ours", "reader")
        model_folders.LOADERS["load_model" if ours else "load_pretrained"](folder)
        model_folders.LOADERS["load_core"](folder)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a short line"), None),
        (OSError("a short line"), None),
        (ValueError("x" * 1001), ValueError),
        (ValueError("two\nlines"), AssertionError),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), UnicodeDecodeError),
        (TypeError("not documented"), TypeError),
        (type("PanicException", (BaseException,), {})("rust"), AssertionError),
    ],
)
def test_the_check_passes_documented_errors_only(tmp_path, monkeypatch, error, expected):
    def load(folder):
        raise error

    monkeypatch.setattr(model_folders, "LOADERS", {"one": load})
    if expected is None:
        model_folders.check(tmp_path)
    else:
        with pytest.raises(expected):
            model_folders.check(tmp_path)
