"""Tokenizers of models without segments number all tokens 0, whatever their post-processor."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from adapler_jax.data.tokenization.segments import drop_segments, has_one_segment

WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "b": 5}
TEMPLATE = processors.TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
)
PROCESSORS = {
    "bert": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "template": TEMPLATE,
    "sequence": processors.Sequence([processors.ByteLevel(trim_offsets=False), TEMPLATE]),
}


def make(processor) -> Tokenizer:
    core = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    core.pre_tokenizer, core.post_processor = pre_tokenizers.Whitespace(), processor
    return core


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("texts", [("a",), ("a b", "b")])
def test_tokens_stay_and_segments_are_0(tmp_path, name, texts):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}))
    core = make(PROCESSORS[name])
    before = core.encode(*texts)
    drop_segments(core, tmp_path)
    after = core.encode(*texts)
    assert after.tokens == before.tokens and after.sequence_ids == before.sequence_ids
    assert max(before.type_ids) == len(texts) - 1 and max(after.type_ids) == 0


@pytest.mark.parametrize(
    "content", ['{"model_type": "bert"}', "[]", "{", None, '{"model_type": "roberta"}']
)
def test_other_models_keep_their_segments(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    core = make(TEMPLATE)
    drop_segments(core, tmp_path)
    assert core.encode("a", "b").type_ids == [0, 0, 0, 1, 1]


def test_families_without_segments_are_found_in_every_form():
    assert has_one_segment({"model_type": "xlm-roberta", "type_vocab_size": 1})
    assert has_one_segment(
        {"model_type": "bert", "type_vocab_size": 1, "pooler_activation": "relu"}
    )
    assert has_one_segment({"model_type": "mpnet"})
    assert not has_one_segment({"model_type": "electra"})
    assert not has_one_segment({"model_type": "bert", "type_vocab_size": 1})
    assert not has_one_segment({"model_type": "camembert", "type_vocab_size": 2})
