"""transformers predicts with a saved folder as this library does."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: the comparisons with PyTorch did not run"
)
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

from adapler_jax.data.tokenization.tokenizers import load_tokenizer  # noqa: E402
from adapler_jax.heads import CLASSIFICATION, SPAN, choice  # noqa: E402
from adapler_jax.inference.classifier import Classifier  # noqa: E402
from adapler_jax.inference.multiple_choice import MultipleChoice  # noqa: E402
from adapler_jax.inference.question_answerer import QuestionAnswerer  # noqa: E402
from adapler_jax.inference.reranker import Reranker  # noqa: E402
from adapler_jax.weights.pretrained import load_pretrained  # noqa: E402
from adapler_jax.weights.save import save_model  # noqa: E402
from adapler_jax.weights.score_heads import head_of_checkpoint  # noqa: E402

pytestmark = pytest.mark.compare
NAMES, MAX_LENGTH = ("negative", "positive"), 14
TEXTS = ["a good film .", "bad", "", "the plot is thin and the cast is good " * 4]
PAIRS = [("a good film .", "the cast"), ("bad", "the plot is thin and the cast is good " * 4)]
SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "id2label": {0: "positive", 1: "negative"},
}
SPECIAL = {
    "wordpiece": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"),
    "sentences": ("<s>", "</s>", "<pad>", "<unk>", "<mask>"),
    "mpnet": ("<s>", "</s>", "<pad>", "[UNK]", "<mask>"),
}
ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
FAMILIES = {
    "bert": ("Bert", "wordpiece", {}),
    "roberta": ("Roberta", "bytes", {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", "sentences", {"type_vocab_size": 1}),
    "camembert": ("Camembert", "sentences", {"type_vocab_size": 1}),
    "distilbert": ("DistilBert", "wordpiece", {}),
    "electra": ("Electra", "wordpiece", {"embedding_size": 12}),
    "mpnet": ("MPNet", "mpnet", {}),
}


def make_tokenizer(kind):
    """Return a tokenizer of a family's kind, trained on the texts above."""
    special = SPECIAL.get(kind, SPECIAL["sentences"])
    ordered = [special[2], special[0], special[1], special[3], special[4]]
    if kind == "mpnet":  # its padding has number 1 in transformers' program
        ordered[:2] = special[0], special[2]
    texts = [*TEXTS, *(text for pair in PAIRS for text in pair)]
    if kind in ("wordpiece", "mpnet"):
        core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        core.normalizer, core.pre_tokenizer = (
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
        )
        trainer = trainers.WordPieceTrainer(
            vocab_size=290, special_tokens=ordered, show_progress=False
        )
    elif kind == "bytes":
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=290, special_tokens=ordered, initial_alphabet=alphabet, show_progress=False
        )
    else:
        words = sorted({word for text in texts for word in text.split()})
        pieces = [(token, 0.0) for token in ordered] + [(f"\u2581{word}", -2.0) for word in words]
        core, trainer = Tokenizer(models.Unigram(pieces, unk_id=3)), None
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.add_special_tokens(ordered)
    if trainer:
        core.train_from_iterator(texts * 3, trainer)
    first, last = ((token, core.token_to_id(token)) for token in special[:2])
    if kind in ("bytes", "mpnet"):
        core.post_processor = processors.RobertaProcessing(last, first)
    elif kind == "wordpiece":
        core.post_processor = processors.BertProcessing(last, first)
    else:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[first, last]
        )
    return core, dict(zip(ROLES, special))


def start(folder, family, kind, **fields):
    """Write a random checkpoint of a family with a tokenizer; return the folder."""
    prefix, tokenizer_kind, changes = FAMILIES[family]
    core, special = make_tokenizer(tokenizer_kind)
    torch.manual_seed(5)
    model_class = getattr(transformers, f"{prefix}For{kind}")
    pad = core.token_to_id(special["pad_token"])
    sizes = {**SIZES, **changes, "pad_token_id": pad, **fields}
    model = model_class(model_class.config_class(**sizes)).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias") or "orm" in name:
                value.add_(0.3 * torch.randn_like(value))
    model.save_pretrained(folder)
    core.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder


def save(folder, family, kind, head=CLASSIFICATION, **changes):
    """Load a random checkpoint, give its segments random numbers, and save it."""
    source = start(folder / "start", family, kind)
    names = NAMES if head is CLASSIFICATION else None
    loaded = load_pretrained(source, jax.random.key(0), class_names=names, head=head)
    embeddings = loaded.params["encoder"]["embeddings"]
    rng = np.random.default_rng(0)
    if "segment" in embeddings:
        embeddings["segment"] = rng.normal(size=embeddings["segment"].shape).astype(np.float32)
    return save_model(
        folder / "model",
        loaded.params,
        loaded.config,
        class_names=names,
        head=head,
        max_length=MAX_LENGTH,
        tokenizer=load_tokenizer(source),
        **changes,
    )


def probabilities(model, tokenizer, texts):
    """Return the output of transformers for texts, or pairs of texts."""
    firsts, seconds = list(zip(*texts)) if isinstance(texts[0], tuple) else (texts, None)
    inputs = tokenizer(
        list(firsts),
        None if seconds is None else list(seconds),
        truncation=True,
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        return model(**inputs).logits.softmax(-1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_of_each_family_answers_alike_in_transformers(tmp_path, family):
    directory = save(tmp_path, family, "SequenceClassification")
    ours = Classifier.load(directory, driver="masked")
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        directory, output_loading_info=True
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert (
        tokenizer.model_max_length == MAX_LENGTH
        and tokenizer.pad_token_id == model.config.pad_token_id
    )
    assert tuple(model.config.id2label.values()) == NAMES
    for texts in (TEXTS, PAIRS):
        expected = probabilities(model.eval(), tokenizer, texts)
        np.testing.assert_allclose(ours.predict_probs(texts), expected, atol=1e-5)
        assert np.ptp(expected[:, 0]) > 1e-4  # texts differ
    pipe = transformers.pipeline("text-classification", str(directory), truncation=True, top_k=None)
    for found, expected in zip(pipe(TEXTS), ours.predict_probs(TEXTS), strict=True):
        scores = {row["label"]: row["score"] for row in found}
        np.testing.assert_allclose([scores[name] for name in NAMES], expected, atol=1e-5)


LIMITS = {
    "doc_stride": 4,
    "max_question_tokens": 4,
    "max_answer_tokens": 3,
    "n_best_size": 1,
    "max_option_tokens": 6,
}


def best_answer(model, tokenizer, question, context):
    """Return (score, start, end) of the best span by transformers, over windows as ours."""
    asked = len(tokenizer(question, context).encodings[0].ids) - len(
        tokenizer(context, add_special_tokens=False).input_ids
    )
    inputs = tokenizer(
        question,
        context,
        truncation="only_second",
        padding=True,
        return_tensors="pt",
        return_overflowing_tokens=True,
        stride=MAX_LENGTH - asked - LIMITS["doc_stride"],
    )
    encodings = inputs.encodings
    inputs.pop("overflow_to_sample_mapping")
    with torch.no_grad():
        found = model(**inputs)
    spans = [
        (float(first_L[first] + last_L[last]), places.offsets[first][0], places.offsets[last][1])
        for places, first_L, last_L in zip(encodings, found.start_logits, found.end_logits)
        for first, part in enumerate(places.sequence_ids)
        for last in range(first, min(first + LIMITS["max_answer_tokens"], len(places.ids)))
        if part == 1 and places.sequence_ids[last] == 1
    ]
    return max(spans)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet"])
def test_answers_in_texts_are_those_of_transformers(tmp_path, family):
    directory = save(tmp_path, family, "QuestionAnswering", SPAN, extra={"qa": LIMITS})
    ours = QuestionAnswerer.load(directory, driver="masked")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for context in ("the plot is thin", TEXTS[3]):
        score, start, end = best_answer(model, tokenizer, "the cast", context)
        answer = ours.answer("the cast", context)
        assert answer.score == pytest.approx(score, abs=1e-4)
        assert (answer.start, answer.end) == (start, end)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert", "electra", "mpnet"])
def test_chosen_options_are_those_of_transformers(tmp_path, family):
    directory = save(tmp_path, family, "MultipleChoice", choice(2), extra={"qa": LIMITS})
    ours = MultipleChoice.load(directory, driver="masked")
    model = transformers.AutoModelForMultipleChoice.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    # Options of equal length: ours truncates the article by the longer one, transformers by each.
    question, article, options = (
        "is",
        "the plot is thin and the cast is good",
        ("good bad", "bad good"),
    )
    ends = [f"{question} {option}" for option in options]
    inputs = tokenizer(
        [article] * 2, ends, truncation="only_first", padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        found = model(**{name: value[None] for name, value in inputs.items()}).logits.softmax(-1)[0]
    np.testing.assert_allclose(
        ours.choose(question, article, options).probabilities, found.numpy(), atol=1e-5
    )


IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize("activation", ["Sigmoid", "Identity"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert", "electra", "mpnet"])
def test_scores_are_those_of_a_cross_encoder(tmp_path, family, activation):
    cross_encoder = pytest.importorskip("sentence_transformers").CrossEncoder
    field = {"sbert_ce_default_activation_function": IDENTITY} if activation == "Identity" else {}
    source = start(
        tmp_path / "start", family, "SequenceClassification", id2label={0: "LABEL_0"}, **field
    )
    head = head_of_checkpoint(source)
    loaded = load_pretrained(source, jax.random.key(0), head=head)
    directory = save_model(
        tmp_path / "model",
        loaded.params,
        loaded.config,
        head=head,
        max_length=MAX_LENGTH,
        tokenizer=load_tokenizer(source),
    )
    ours = Reranker.load(directory, driver="masked")
    assert ours.activation == activation.lower()
    pairs = [*PAIRS, ("the cast", "good"), ("the cast", "")]
    query, documents = pairs[2][0], [text for _, text in pairs]
    for folder in (source, directory):
        theirs = cross_encoder(str(folder), max_length=MAX_LENGTH, device="cpu")
        expected = theirs.predict(pairs)
        np.testing.assert_allclose(ours.predict(pairs), expected, atol=1e-5)
        assert np.ptp(expected) > 1e-4
        ranked = theirs.rank(query, documents, return_documents=True)
        for found, row in zip(ours.rank(query, documents, None, True), ranked, strict=True):
            assert found.keys() == row.keys() and found["text"] == row["text"]
            assert found["score"] == pytest.approx(row["score"], abs=1e-5)
