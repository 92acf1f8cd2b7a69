"""How texts become tokens is a run's own choice, and travels with its models."""

import json

import pytest

from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.inference.words import encode_tokens
from adapler_jax.training.run import check_config
from adapler_jax.training.text_tasks import class_data
from adapler_jax.weights.save import save_model
from configs import finetune
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.data.vocabulary import words_of

LONG = "[SEP] " + "a good film . " * 20 + "bad"
NUMBER = 5  # tokens of a row


def _task(tmp_path, *, says=None, **fields):
    """Return the task of a file of texts, with the tokenizer of a folder."""
    folder = tmp_path / "model"
    build_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    said = {"model_max_length": NUMBER - 1} | ({"truncation_side": says} if says else {})
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    rows = "".join(json.dumps({"text": LONG, "label": label}) + "\n" for label in "ab" * 10)
    (tmp_path / "rows.jsonl").write_text(rows)
    config = finetune.get_config("custom")
    config.model = str(folder)
    source = f"file:{tmp_path / 'rows.jsonl'}"
    config.data.update({"source": source, "max_length": NUMBER, "cache_dir": "none", **fields})
    check_config(config)
    return class_data(config, folder, ("train",)), load_core(folder)


@pytest.mark.parametrize(
    ("saved", "field", "side"),
    [("middle", "", "middle"), ("middle", "right", "right"), (None, "", "left")],
)
def test_a_start_of_this_library_keeps_where_it_cuts(tmp_path, saved, field, side):
    named = {"base_model": "org/name"}
    extra = named if saved is None else named | {"truncation_side": saved}
    directory = tmp_path / "model"
    save_model(directory, tiny.make_params(), tiny.CONFIG, pruner_name="adapler", extra=extra)
    task, _ = _task(tmp_path, says="left", truncation_side=field)
    assert task.extra == named | {"truncation_side": side}
    assert any("tokens lose their middle" in note for note in task.notes) == (side == "middle")


def test_a_start_that_cuts_nowhere_known_is_refused(tmp_path):
    save_model(
        tmp_path / "model",
        tiny.make_params(),
        tiny.CONFIG,
        pruner_name="adapler",
        extra={"truncation_side": 3},
    )
    with pytest.raises(
        ValueError, match=r"extra\['truncation_side'\] in config.json is 3; expected"
    ):
        _task(tmp_path)


@pytest.mark.parametrize(
    ("says", "field", "side"),
    [
        (None, "", "right"),
        ("left", "", "left"),
        ("left", "right", "right"),
        (None, "left", "left"),
        (None, "middle", "middle"),
    ],
)
def test_long_texts_are_cut_where_the_run_or_else_the_checkpoint_says(tmp_path, says, field, side):
    task, core = _task(tmp_path, says=says, truncation_side=field)
    expected = {
        "right": "[CLS] [SEP] a good [SEP]",
        "left": "[CLS] film . bad [SEP]",
        "middle": "[CLS] [SEP] a bad [SEP]",
    }[side]
    tokens = task.splits["train"].tokens[0]
    assert words_of(core, tokens) == expected.split() and task.extra == {"truncation_side": side}
    (asked,) = encode_tokens(core, [LONG], None, max_length=NUMBER, **task.extra)
    assert asked.token_L.tolist() == tokens.tolist()
    assert any("lose their beginning" in note for note in task.notes) == (
        says == "left" and not field
    )
    assert any("says that it reads 4 tokens (model_max_length)" in note for note in task.notes)


def test_special_tokens_in_texts_are_text_where_the_run_says_so(tmp_path):
    task, core = _task(tmp_path, split_special_tokens=True)
    assert words_of(core, task.splits["train"].tokens[0]) == [
        "[CLS]",
        "[UNK]",
        "[UNK]",
        "[UNK]",
        "[SEP]",
    ]


def test_another_side_is_refused_before_any_work(tmp_path):
    with pytest.raises(
        ValueError, match="config.data.truncation_side is 'both'; expected right or left or middle"
    ):
        _task(tmp_path, truncation_side="both")
