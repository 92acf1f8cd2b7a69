"""Write folders of a tokenizer, and compare what is read with transformers."""

import json
import warnings

from transformers import AutoTokenizer

from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer

WORDS = ("the", "film", "The", "É", "Film", "cafe", "café", "<e2>")
TEXTS = (
    "The É film [E1] was a café [MASK]",
    "the [e1]x",
    "[SEP] [E1]",
    "film[E1] the",
    "日本 Film",
    "É e\u0301",
    "a  <e2> b",
    "",
)
BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False}


def write_folder(path, core, *, model_type="bert", **files):
    """Write tokenizer.json, config.json and other files, which are named with __ for the dot."""
    path.mkdir(exist_ok=True)
    if core is not None:
        core.save(str(path / "tokenizer.json"))
    for name, content in {"config__json": {"model_type": model_type}, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("__", ".")).write_bytes(text.encode())
    return path


def ids_of(core, texts=TEXTS):
    return [row.ids for row in core.encode_batch(list(texts))]


def check_as_transformers(folder, texts=TEXTS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = AutoTokenizer.from_pretrained(folder)(list(texts))["input_ids"]
    assert ids_of(load_core(folder), texts) == expected
    assert load_tokenizer(folder)(list(texts))["input_ids"] == expected
