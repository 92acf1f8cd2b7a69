"""The files of a saved folder that others read: config.json, tokenizer_config.json, the card."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.heads import CLASSIFICATION, SPAN, choice, hotpot
from adapler_jax.inference.engine import make_engine
from adapler_jax.inference.ids import check_ids, check_rows
from adapler_jax.pruning import keep_all
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.card import EXPORT, is_own_card, set_card_part
from adapler_jax.weights.checkpoint_formats import OWN_FILE, distilbert_tensors, from_distilbert
from adapler_jax.weights.config import CALIBRATION_FILE
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from tests.export.onnx_models import save_tiny
from tests.tiny import CONFIG as TINY
from tests.tiny import make_batch

KEY = jax.random.key(0)
CONFIG = EncoderConfig(
    num_layers=4, num_heads=2, hidden_dim=16, ffn_dim=24, vocab_size=50, num_positions=12
)
DISTILBERT = EncoderConfig(
    4, 2, 16, 24, 50, 12, num_segments=1, pooler_activation="relu", classifier_dropout_prob=0.2
)
BERT_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")
ROBERTA_WORDS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b")


@pytest.fixture
def params(write_checkpoint, tensors):
    """The tree of the tiny checkpoint, without a pruner."""
    return load_pretrained(write_checkpoint(tensors), KEY).params | {"pruner": {}}


def one_segment(params):
    """Return the parameters with the first row of the segment table only."""
    embeddings = params["encoder"]["embeddings"]
    embeddings = embeddings | {"segment": embeddings["segment"][:1]}
    return params | {"encoder": params["encoder"] | {"embeddings": embeddings}}


def write_tokenizer(folder, words, settings=None):
    """A folder with a tokenizer.json, and a tokenizer_config.json where there are settings."""
    folder.mkdir()
    core = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[3])
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([word for word in words if word[0] in "[<"])
    first, last = (words[2], words[3]) if words[0] == "[PAD]" else (words[0], words[2])
    core.post_processor = processors.BertProcessing(
        (last, core.token_to_id(last)), (first, core.token_to_id(first))
    )
    core.save(str(folder / "tokenizer.json"))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def read(path):
    return json.loads(path.read_text())


def test_the_tokenizers_settings_say_how_the_model_reads_texts(tmp_path, params):
    source = write_tokenizer(
        tmp_path / "tokenizer", BERT_WORDS, {"auto_map": {"AutoTokenizer": "code.py"}}
    )
    directory = save_model(tmp_path / "model", params, CONFIG, max_length=9, tokenizer=source)
    settings = read(directory / "tokenizer_config.json")
    assert settings["model_max_length"] == 9
    assert settings["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast" and "auto_map" not in settings
    assert (settings["truncation_side"], settings["padding_side"]) == ("right", "right")
    assert (settings["cls_token"], settings["pad_token"]) == ("[CLS]", "[PAD]")
    assert (
        read(
            save_model(tmp_path / "free", params, CONFIG, tokenizer=source)
            / "tokenizer_config.json"
        )["model_max_length"]
        == 12
    )  # the number of positions


def test_models_without_segments_are_given_none(tmp_path, params):
    source = write_tokenizer(tmp_path / "tokenizer", BERT_WORDS)
    directory = save_model(tmp_path / "model", one_segment(params), DISTILBERT, tokenizer=source)
    assert read(directory / "tokenizer_config.json")["model_input_names"] == [
        "input_ids",
        "attention_mask",
    ]
    pair = load_core(directory).encode("a", "b")
    assert pair.tokens == ["[CLS]", "a", "[SEP]", "b", "[SEP]"] and pair.type_ids == [0] * 5
    assert load_core(source).encode("a", "b").type_ids == [0, 0, 0, 1, 1]


def test_numbers_of_special_tokens_are_the_tokenizers(tmp_path, params):
    source = write_tokenizer(tmp_path / "tokenizer", ROBERTA_WORDS)
    directory = save_model(tmp_path / "model", params, CONFIG, tokenizer=source)
    raw = read(directory / "config.json")
    assert (raw["pad_token_id"], raw["bos_token_id"], raw["eos_token_id"]) == (1, 0, 2)
    save_model(directory, params, CONFIG)  # keeps the tokenizer that is there
    assert read(directory / "config.json")["pad_token_id"] == 1
    raw = read(save_model(tmp_path / "none", params, CONFIG) / "config.json")
    assert raw["pad_token_id"] == 0 and "bos_token_id" not in raw


def all_tensors(directory):
    """The tensors of both files."""
    return safetensors.numpy.load_file(
        directory / "model.safetensors"
    ) | safetensors.numpy.load_file(directory / OWN_FILE)


def test_a_distilbert_is_saved_as_one_and_comes_back_exactly(tmp_path, params):
    params = one_segment(params)
    directory = save_model(tmp_path / "model", params, DISTILBERT, class_names=("a", "b", "c"))
    raw = read(directory / "config.json")
    assert raw["model_type"] == "distilbert"
    assert raw["architectures"] == ["DistilBertForSequenceClassification"]
    assert (raw["dim"], raw["hidden_dim"], raw["n_layers"], raw["activation"]) == (
        16,
        24,
        4,
        "gelu",
    )
    assert "pooler_activation" not in raw and "hidden_size" not in raw
    saved = load_model(directory)
    assert saved.config == DISTILBERT and saved.class_names == ("a", "b", "c")
    jax.tree.map(np.testing.assert_array_equal, saved.params, params)
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    embeddings = params["encoder"]["embeddings"]
    np.testing.assert_array_equal(
        tensors["distilbert.embeddings.position_embeddings.weight"],
        embeddings["position"] + embeddings["segment"],
    )
    assert not any(name.startswith(("bert.", "adapler_jax.")) for name in tensors)
    again = load_pretrained(directory, KEY).params["encoder"]["embeddings"]
    jax.tree.map(np.testing.assert_array_equal, again, embeddings)
    assert (directory / OWN_FILE).stat().st_mode == (directory / "config.json").stat().st_mode


def test_tables_in_one_file_are_read_as_from_two(tmp_path, params):
    params = one_segment(params)
    directory = save_model(tmp_path / "model", params, DISTILBERT)
    safetensors.numpy.save_file(all_tensors(directory), directory / "model.safetensors")
    (directory / OWN_FILE).unlink()
    jax.tree.map(np.testing.assert_array_equal, load_model(directory).params, params)


def test_own_tables_of_other_weights_are_refused_and_none_are_needed(tmp_path, params):
    params = one_segment(params)
    directory = save_model(tmp_path / "model", params, DISTILBERT)
    name = "distilbert.embeddings.position_embeddings.weight"
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    changed = tensors | {name: tensors[name] + 1.0}
    safetensors.numpy.save_file(changed, directory / "model.safetensors")
    for load in (load_model, lambda folder: load_pretrained(folder, KEY)):
        with pytest.raises(ValueError, match=f"{OWN_FILE} does not belong to the weights next to"):
            load(directory)
    (directory / OWN_FILE).unlink()
    embeddings = load_model(directory).params["encoder"]["embeddings"]
    np.testing.assert_array_equal(embeddings["position"], changed[name])
    assert not np.any(embeddings["segment"])


def test_a_bert_that_replaces_a_distilbert_keeps_no_tables_of_it(tmp_path, params):
    directory = save_model(tmp_path / "model", one_segment(params), DISTILBERT)
    save_model(directory, params, CONFIG)
    assert not (directory / OWN_FILE).exists()
    jax.tree.map(np.testing.assert_array_equal, load_model(directory).params, params)


def test_a_folder_of_a_distilbert_of_an_earlier_release_is_read(tmp_path, params):
    params = one_segment(params)
    directory = save_model(tmp_path / "model", params, DISTILBERT)
    raw, tensors = (
        read(directory / "config.json"),
        all_tensors(directory),
    )
    section = {
        key: value
        for key, value in raw["adapler_jax"].items()
        if key not in ("card", "head_options")
    }
    old = {
        "model_type": "bert",
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "vocab_size": 50,
        "max_position_embeddings": 12,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
        "classifier_dropout": 0.2,
        "pooler_activation": "relu",
        "id2label": raw["id2label"],
        "adapler_jax": section,
    }
    safetensors.numpy.save_file(from_distilbert(tensors, "a test"), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(old))
    saved = load_model(directory)
    assert saved.config == DISTILBERT
    jax.tree.map(np.testing.assert_array_equal, saved.params, params)


def test_distilberts_tensors_go_there_and_back(tensors):
    tensors["bert.embeddings.token_type_embeddings.weight"] = np.ones((1, 16), np.float32)
    back = from_distilbert(distilbert_tensors(tensors), "a test")
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)


def test_an_architecture_that_no_class_computes_is_not_claimed(tmp_path, params):
    config = EncoderConfig(
        4, 2, 16, 24, 50, 12, pooler_activation="relu"
    )  # of two segments: no DistilBERT
    directory = save_model(tmp_path / "model", params, config)
    assert read(directory / "config.json")["architectures"] == ["BertModel"]
    assert "no class of transformers computes this head" in (directory / "README.md").read_text()
    assert load_model(directory).config == config


@pytest.mark.parametrize(
    ("head", "use", "purpose"),
    [
        (CLASSIFICATION, "from adapler_jax import Classifier", "for text classification"),
        (SPAN, "from adapler_jax import QuestionAnswerer", "for question answering"),
        (choice(4), "from adapler_jax import MultipleChoice", "for multiple choice"),
        (hotpot(3), "adapler_jax.weights.save.load_model", "with the head `hotpot`"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_card_says_what_the_model_is_and_how_it_is_read(tmp_path, params, head, use, purpose):
    params = params | {"head": head.init(KEY, CONFIG, 3)}
    names = ("bad\n# no heading", "so-so", "good") if head is CLASSIFICATION else None
    directory = save_model(
        tmp_path / "model",
        params,
        CONFIG,
        head=head,
        class_names=names,
        max_length=8,
        task="reviews",
    )
    card = (directory / "README.md").read_text()
    assert use in card and "Task: reviews" in card and "Length: 8 tokens" in card
    assert f"\n# BERT {purpose}\n" in card and "- All tokens run through all layers\n" in card
    assert card.startswith("---\nlibrary_name: adapler_jax\n") and "\n# no heading" not in card
    assert "truncation=True" in card and "unpruned" not in card


def test_the_card_of_a_pruned_model_says_that_others_do_not_prune(tmp_path, params):
    params = params | {"pruner": {"retention_N": np.full(4, 5.0, np.float32)}}
    directory = save_model(tmp_path / "model", params, CONFIG, pruner_name="powerbert")
    card = (directory / "README.md").read_text()
    assert "they read the weights unpruned" in card and "dropped by: PoWER-BERT" in card
    assert "\n# BERT for text classification, with tokens dropped\n" in card


def test_a_readme_of_the_user_is_kept_and_ours_is_written_again(tmp_path, params):
    directory = save_model(tmp_path / "model", params, CONFIG, task="one")
    card = directory / "README.md"
    save_model(directory, params, CONFIG, task="two")
    assert "Task: two" in card.read_text()
    card.write_text(card.read_text() + "\nmy own words\n")
    save_model(directory, params, CONFIG, task="three")
    assert "Task: two" in card.read_text() and "my own words" in card.read_text()
    card.write_text("mine")
    save_model(directory, params, CONFIG, task="four")
    assert card.read_text() == "mine"


def test_the_part_of_a_calibration_is_replaced_and_goes_with_another_model(tmp_path, params):
    directory = save_model(tmp_path / "model", params, CONFIG, task="one")
    card = directory / "README.md"
    plain = card.read_text()
    for text in ("first budgets", "second budgets"):
        set_card_part(directory, text)
        assert card.read_text().startswith(plain) and text in card.read_text()
    assert "first budgets" not in card.read_text()
    assert is_own_card(directory, read(directory / "config.json")["adapler_jax"])
    (directory / CALIBRATION_FILE).write_text("of this model")
    save_model(directory, params, CONFIG, task="one")
    assert card.read_text().startswith(plain) and "second budgets" in card.read_text()
    assert is_own_card(directory, read(directory / "config.json")["adapler_jax"])
    save_model(directory, params, CONFIG, task="two")
    assert "Task: two" in card.read_text() and "budgets" not in card.read_text()


@pytest.mark.parametrize(
    ("method", "head", "lines"),
    [
        ("keep_all", CLASSIFICATION, ["pipeline_tag: text-classification"]),
        (
            "adapler",
            CLASSIFICATION,
            ["pipeline_tag: text-classification", "tags:", "- token-pruning", "- adapler"],
        ),
        ("keep_all", SPAN, ["pipeline_tag: question-answering"]),
    ],
)
def test_a_card_begins_with_what_the_hub_searches(tmp_path, method, head, lines):
    directory = save_tiny(tmp_path / "model", method, head=head)
    card = (directory / "README.md").read_text().split("---\n")
    assert card[0] == ""
    assert card[1].splitlines() == ["library_name: adapler_jax", *lines]


def test_parts_of_a_card_are_apart(tmp_path, params):
    directory = save_model(tmp_path / "model", params, CONFIG, task="one")
    card = directory / "README.md"
    plain = card.read_text()
    set_card_part(directory, "the budgets")
    set_card_part(directory, "the files", part=EXPORT)
    set_card_part(directory, "other budgets")
    assert is_own_card(directory, read(directory / "config.json")["adapler_jax"])
    assert "the files" in card.read_text() and "other budgets" in card.read_text()
    # Without a calibration's file its part goes.
    (directory / "exports.json").write_text("{}")
    save_model(directory, params, CONFIG, task="one")
    assert "the files" in card.read_text() and "budgets" not in card.read_text()
    set_card_part(directory, "", part=EXPORT)
    assert card.read_text() == plain


@pytest.mark.parametrize("words", ["{card}\nmy own words\n", "my own words\n{card}", "mine"])
def test_a_card_of_the_user_gets_no_part_of_a_calibration(tmp_path, params, words):
    directory = save_model(tmp_path / "model", params, CONFIG, task="one")
    set_card_part(directory, "first budgets")
    card = directory / "README.md"
    card.write_text(words.format(card=card.read_text()))
    before, notes = card.read_text(), []
    set_card_part(directory, "second budgets", log=notes.append)
    assert notes == [f"{card} has changes of yours and stays as it is, with any older numbers"]
    save_model(directory, params, CONFIG, task="two")
    assert card.read_text() == before
    card.unlink()
    set_card_part(directory, "third budgets", log=notes.append)
    assert not card.exists() and len(notes) == 1


def test_what_cannot_be_loaded_is_not_saved(tmp_path, params):
    for options, message in (
        ({"max_length": 0}, "max_length is 0; expected None or a whole number from 1 to 65536"),
        ({"max_length": 10**9}, "max_length is 1000000000"),
        (
            {"class_names": ("a", "b", "\ud800")},
            "class_names .* are not all texts that can be written",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            save_model(tmp_path / "model", params, CONFIG, **options)
    with pytest.raises(TypeError):
        save_model(tmp_path / "model", params, CONFIG, extra={"a": object()})
    assert not (tmp_path / "model").exists()


def test_ids_out_of_range_are_refused_before_the_device_clamps_them():
    batch = make_batch()
    check_ids(batch, TINY)
    check_ids(jax.tree.map(jax.numpy.asarray, batch), TINY)
    for name, value, message in (
        ("token_BL", 50, "the batch has the token 50; the model has 50, from 0 to 49"),
        ("token_BL", -1, "the token -1"),
        ("segment_BL", 2, "the batch has the segment 2; the model has 2"),
    ):
        ids = getattr(batch, name).copy()
        ids[0, 3] = value
        for put in (np.asarray, jax.numpy.asarray):
            with pytest.raises(ValueError, match=message):
                check_ids(batch.replace(**{name: put(ids)}), TINY)
        ids = getattr(batch, name).copy()
        ids[3, 5] = value  # padding, which is not read
        check_ids(batch.replace(**{name: ids}), TINY)
    one = EncoderConfig(4, 2, 16, 24, 50, 16, num_segments=1)
    with pytest.raises(
        ValueError, match="the segment 1; the model has 1, from 0 to 0: give it single texts"
    ):
        check_ids(batch, one)
    with pytest.raises(ValueError, match="the split train has the segment 1"):
        check_rows(np.zeros(3, np.int32), np.ones(3, np.int8), one, where="the split train")
    jax.eval_shape(lambda batch: check_ids(batch, one), batch)  # traced: not looked at
    with pytest.raises(ValueError, match="the segment 1; the model has 1"):
        make_engine(one, keep_all(), driver="masked")({}, batch)
