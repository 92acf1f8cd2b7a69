"""Seeds and check of a fuzz: loaders of model folders end in documented errors."""

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer
from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import CLASSIFICATION, SPAN, Head, hotpot
from adapler_jax.inference.loading import qa_settings
from adapler_jax.inference.model_kind import max_length_of
from adapler_jax.io.messages import MAX_MESSAGE
from adapler_jax.pruning import make_pruner, pruner_of_saved
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import config_json
from adapler_jax.weights.folders import describe_folder
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.rules import axis_sizes, model_rules
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.tree import to_tensors

CONFIG = EncoderConfig(
    num_layers=2, num_heads=2, hidden_dim=8, ffn_dim=12, vocab_size=16, num_positions=8
)
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film", ".", "##s", "bad")
KEY = jax.random.key(0)
SHARDS = 2
DOCUMENTED = (ValueError, OSError)


def random_params(head: Head = CLASSIFICATION, pruner: str = "keep_all", **sizes):
    """Return a whole tree of random numbers, drawn by NumPy because that compiles nothing."""
    config = EncoderConfig(2, 2, 8, 12, 16, 8, **sizes)
    shapes = {
        "encoder": jax.eval_shape(lambda: init_encoder(KEY, config)),
        "head": jax.eval_shape(lambda: head.init(KEY, config, 2)),
        "pruner": jax.eval_shape(lambda: make_pruner(pruner, config).init(KEY, config)),
    }
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return params if pruner != "keep_all" else params | {"pruner": {}}


def write_tokenizer(folder: Path) -> Path:
    """Write a WordPiece tokenizer with its settings; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    core = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    core.add_special_tokens(list(WORDS[:5]))
    core.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 8}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({"cls_token": "[CLS]"}))
    return folder


def published(folder: Path, *, shards: int = 1) -> Path:
    """Write a BERT as others publish it, in one file or in several; return the folder."""
    write_tokenizer(folder)
    params = random_params()
    tensors = to_tensors(params, model_rules("keep_all"), axis_sizes(CONFIG, num_classes=2))
    raw = config_json(CONFIG, "BertForSequenceClassification", ("bad", "good"))
    (folder / "config.json").write_text(json.dumps(raw))
    if shards == 1:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        return folder
    names = sorted(tensors)
    weight_map = {name: f"model-{place % shards}.safetensors" for place, name in enumerate(names)}
    for shard in set(weight_map.values()):
        part = {name: tensors[name] for name in names if weight_map[name] == shard}
        safetensors.numpy.save_file(part, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def as_roberta(folder: Path) -> Path:
    """Write the BERT as a RoBERTa with a vocabulary alone; return the folder."""
    published(folder)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    table = tensors["bert.embeddings.position_embeddings.weight"]
    tensors["bert.embeddings.position_embeddings.weight"] = np.concatenate([table[:2], table])
    tensors = {name.replace("bert.", "roberta."): value for name, value in tensors.items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    raw = json.loads((folder / "config.json").read_text())
    raw |= {"model_type": "roberta", "max_position_embeddings": 10, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def seed_folders(root: Path) -> list[Path]:
    """Write one folder of each kind that the loaders read; return them.

    Args:
      root: an empty folder.
    """
    limits = {"doc_stride": 2, "max_question_tokens": 2, "max_answer_tokens": 2, "n_best_size": 2}
    reading = {"qa": limits, "no_answer_threshold": 0.5}
    tokenizer = write_tokenizer(root / "tokenizer")
    distilbert = EncoderConfig(2, 2, 8, 12, 16, 8, num_segments=1, pooler_activation="relu")
    save_model(
        root / "ours",
        random_params(pruner="adapler"),
        CONFIG,
        pruner_name="adapler",
        class_names=("bad", "good"),
        max_length=8,
        task="sst2",
        tokenizer=tokenizer,
    )
    save_model(
        root / "reader",
        random_params(SPAN, "trbert"),
        CONFIG,
        pruner_name="trbert",
        pruner_options={"layers": (1,)},
        head=SPAN,
        max_length=8,
        tokenizer=tokenizer,
        extra=reading,
    )
    save_model(
        root / "hotpot", random_params(hotpot(3)), CONFIG, head=hotpot(3), tokenizer=tokenizer
    )
    save_model(root / "distilbert", random_params(num_segments=1), distilbert, tokenizer=tokenizer)
    shutil.rmtree(tokenizer)
    published(root / "bert")
    published(root / "sharded", shards=SHARDS)
    as_roberta(root / "roberta")
    return sorted(path for path in root.iterdir() if path.is_dir())


def check(folder: Path) -> None:
    """Load a folder in every way, and raise what a loader ended in where that is not as documented.

    A documented error is a ValueError or an OSError. Its message is one printable line of at most
    MAX_MESSAGE characters, and
    that says more than what a parser raised.
    """
    for load in LOADERS.values():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(folder)
        except DOCUMENTED as error:
            message = str(error)
            if isinstance(error, UnicodeError | json.JSONDecodeError) or len(message) > MAX_MESSAGE:
                raise
            if not message.isprintable():
                raise AssertionError(f"not printable: {message[:300]!r}") from error
        except BaseException as error:  # a panic in Rust, which is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise AssertionError(f"panic: {str(error)[:300]!r}") from error


def _run_saved(folder: Path) -> None:
    """Load a saved model and what its users ask of it before it runs."""
    saved = load_model(folder)
    pruner_of_saved(saved)
    max_length_of(saved)
    if saved.head is SPAN:
        qa_settings(saved, "doc_stride", "max_question_tokens", "max_answer_tokens", "n_best_size")


LOADERS = {
    "load_pretrained": lambda folder: load_pretrained(folder, KEY, class_names=("bad", "good")),
    "load_pretrained span": lambda folder: load_pretrained(folder, KEY, head=SPAN),
    "load_model": _run_saved,
    "describe_folder": describe_folder,
    "load_core": load_core,
    "load_tokenizer": lambda folder: load_tokenizer(str(folder)),
}
