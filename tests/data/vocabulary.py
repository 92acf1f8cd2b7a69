"""Build small tokenizers of BERT's and RoBERTa's forms, and show tokens as words."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "[unused2]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def build_core(words=(), *, special=SPECIAL) -> Tokenizer:
    """Build a lower-casing BERT tokenizer of words, letters and signs, which keeps accents."""
    vocab = [*special, *words, *LETTERS, *(f"##{letter}" for letter in LETTERS), *"._?,:-é日本🎬"]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(vocab))}
    core = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(
        ("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"])
    )
    return core


def build_roberta_core() -> Tokenizer:
    """Build a tokenizer of bytes with RoBERTa's template: <s> a </s></s> b </s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    numbers = {
        word: number
        for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet])
    }
    core = Tokenizer(models.BPE(numbers, [], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    core.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return core


def words_of(core: Tokenizer, tokens) -> list[str]:
    """Return each token as text."""
    return [core.id_to_token(int(token)) for token in tokens]
