"""Define the rules between Hugging Face tensor names and our parameter tree.

Reading and writing use one table.

A rule gives the shape of a leaf in letters of the shape key of `types.py`, without a stacked axis.

Further letters: X rows of the position table, Y rows of the segment table, M sites of a pruner, E
two states side by side; 0 to 9 axes of that size. A leaf called `kernel` is (in, out) in the
tree and (out, in) in a file. Rules of encoders and pruners may have other letters, whose sizes
`shapes.model_sizes` finds.

Source: the layout with one rule table and all mismatches reported together follows bonsai's
`models/vit/params.py`.
"""

import re

from adapler_jax.encoders import Encoder, encoder_of
from adapler_jax.encoders.bert import BERT
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.io.messages import listed
from adapler_jax.pruning import PRUNERS, tensor_rules_of
from adapler_jax.types import EncoderConfig, Rule, linear_rules
from adapler_jax.weights.checkpoint_formats import saves_as_distilbert

ENCODER_RULES = BERT.tensor_rules
POOLER_RULES = linear_rules("bert.pooler.dense", "head/pooler", "DD")
CLASSIFIER_RULES = linear_rules("classifier", "head/classifier", "DC")
SPAN_RULES = linear_rules("qa_outputs", "head/span", "D2")
CANDIDATE_RULES = linear_rules("candidate_score", "head/candidate", "D1")
HOTPOT_RULES = (
    *SPAN_RULES,
    *linear_rules("answer_type", "head/type", "D3"),
    *linear_rules("sentence_hidden", "head/sentence_hidden", "ED"),
    *linear_rules("sentence_support", "head/sentence_support", "D2"),
)
# C is the number of its outputs. A model of vectors may lack it, see `head_rules`.
EMBEDDING_RULES = linear_rules("sentence_dense", "head/dense", "DC")
HEAD_RULES = {
    "classification": POOLER_RULES + CLASSIFIER_RULES,
    "choice": POOLER_RULES + CLASSIFIER_RULES,
    "span": SPAN_RULES,
    "candidates": CANDIDATE_RULES,
    "hotpot": HOTPOT_RULES,
    "multi_label": POOLER_RULES + CLASSIFIER_RULES,
    "regression": POOLER_RULES + CLASSIFIER_RULES,
    "embedding": EMBEDDING_RULES,
    "token_classification": CLASSIFIER_RULES,
}
# The class of transformers for encoder and head, or for the encoder if no class has the head.
ARCHITECTURES = {
    "classification": "BertForSequenceClassification",
    "choice": "BertForMultipleChoice",
    "span": "BertForQuestionAnswering",
    "candidates": "BertModel",
    "hotpot": "BertModel",
    "multi_label": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "embedding": "BertModel",
    "token_classification": "BertForTokenClassification",
}
# Modules that hold a model: of torch.compile, checkpointing and parallel training anywhere in a
# name; of training loops, PEFT and Lightning before it.
COMPILER = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
MODULE = re.compile(r"^(module\.)+")
WRAPPER = re.compile(r"^((module|model|base_model)\.)+")
# Tensors that change what a model computes, or that hold its weights in another form, and what to
# do about them.
FOREIGN_PARTS = {
    "an adapter, which changes what the model computes: merge it into the weights and save the "
    "model again": re.compile(
        r"(?:^|.*\.)(?:[^.]*adapter[^.]*|(?:lora|loha|lokr|hada|ia3|oft|boft|vera|dora|prefix|prompt)"
        r"_[^.]*|base_layer|modules_to_save|original_module)(?:\..*|$)",
        re.IGNORECASE,
    ),
    "a part that weights are computed from (parametrised or pruned): save the plain "
    "weights": re.compile(r".*\.(?:parametrizations\..*|(?:weight|bias)_(?:orig|mask|g|v))"),
    "of quantised weights: save the model without quantisation": re.compile(
        r".*\.(?:SCB|(?:nested_)?(?:absmax|quant_map)|quant_state\..*|qweight|qzeros|scales|g_idx"
        r"|_packed_params.*|(?:weight|input)_(?:scale|scale_inv|zero_point)|.*bitsandbytes.*)"
    ),
}

# Other tensors of published checkpoints: constants, and the heads of other tasks.
BUFFERS = re.compile(r"[a-z]+\.embeddings\.(position_ids|token_type_ids)")
PRUNER_PARTS = {rule.name.split(".")[0] for name in PRUNERS for rule in tensor_rules_of(name)}
OTHER_HEADS = re.compile(
    r"(cls|qa_outputs|candidate_score|answer_type|sentence_hidden|sentence_support|sentence_dense"
    r"|lm_head|vocab_transform|vocab_layer_norm|vocab_projector"
    "|" + "|".join(sorted(PRUNER_PARTS)) + r")\..*",
    re.DOTALL,
)


def pooler_rules_of(encoder: Encoder) -> tuple[Rule, ...]:
    """Return the rules of the layer between [CLS] and the classifier, by an encoder's names."""
    return POOLER_RULES if encoder.pooler_rules is None else encoder.pooler_rules


def is_pooled(head: Head, encoder: Encoder = BERT) -> bool:
    """Return whether a head has a pooler and a classifier.

    A family with a norm in its pooler has a pooler for tags of tokens too.
    """
    has_norm = any("pooler_norm" in rule.path for rule in pooler_rules_of(encoder))
    has_token_pooler = has_norm and head.name == "token_classification"
    return has_token_pooler or set(POOLER_RULES) <= set(HEAD_RULES[head.name])


def head_rules(head: Head, encoder: Encoder = BERT) -> tuple[Rule, ...]:
    """Return the rules of a head with its options."""
    if is_pooled(head, encoder):
        return pooler_rules_of(encoder) + CLASSIFIER_RULES
    return HEAD_RULES[head.name] if head.name != "embedding" or own_outputs_of(head) else ()


def own_outputs_of(head: Head) -> int:
    """Return the outputs that a head's options name: several numbers, or a vector's dense layer.

    Without such an option it is 0.
    """
    options = dict(head.factory_kwargs)
    return options.get("num_outputs") or options.get("dense_dim") or 0


def check_own_outputs(head: Head, num_outputs: int, where: str) -> None:
    """Raise ValueError where a head's options name another number of outputs.

    Args:
      head: of the model.
      num_outputs: of a part of the model.
      where: names this part.
    """
    if own_outputs_of(head) not in (0, num_outputs):
        raise ValueError(
            f"{where} has {num_outputs} outputs and the head {head.name} has "
            f"{own_outputs_of(head)}; save the model with a head of as many"
        )


def model_rules(
    pruner_name: str, head: Head = CLASSIFICATION, *, encoder: Encoder = BERT
) -> tuple[Rule, ...]:
    """Return the rules of a whole model.

    Raises:
      ValueError: the pruner or the head has no rules, or two rules have one name.
    """
    if head.name not in HEAD_RULES:
        raise ValueError(
            f"unknown head {head.name!r}; expected one of {', '.join(sorted(HEAD_RULES))}"
        )
    if pruner_name not in PRUNERS:
        raise ValueError(
            f"unknown pruner {pruner_name!r}; expected one of {', '.join(sorted(PRUNERS))}"
        )
    rules = encoder.tensor_rules + head_rules(head, encoder) + tensor_rules_of(pruner_name)
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"the tensor rules of encoder {encoder.name}, head {head.name} and pruner "
            f"{pruner_name} repeat {listed(twice)}; expected a name for each leaf"
        )
    return rules


def architecture_of(config: EncoderConfig, head: Head) -> str:
    """Return the class of transformers for encoder and head, or for the encoder alone."""
    config_format = encoder_of(config).config_format
    if config_format is not None:
        return config_format.architectures.get(head.name, config_format.base_architecture)
    if is_pooled(head) and config.pooler_activation != "tanh" and not saves_as_distilbert(config):
        return "BertModel"
    return ARCHITECTURES[head.name]


def axis_sizes(
    config: EncoderConfig, *, num_classes: int, predictor_dim: int = 0, num_sites: int = 0
) -> dict[str, int]:
    """Return the size of every axis letter.

    `predictor_dim` and `num_sites` matter to rules with P and M only.
    """
    return {
        "N": config.num_layers,
        "M": num_sites,
        "D": config.hidden_dim,
        "F": config.ffn_dim,
        "V": config.vocab_size,
        "X": config.num_positions,
        "Y": config.num_segments,
        "C": num_classes,
        "P": predictor_dim,
        "E": 2 * config.hidden_dim,
        **{str(size): size for size in range(10)},
    }


def foreign_part(name: str) -> str | None:
    """Return what is wrong with a tensor that changes the model's results, else None."""
    return next((what for what, pattern in FOREIGN_PARTS.items() if pattern.fullmatch(name)), None)


def canonical_name(name: str) -> str:
    """Return the name in the table: `bert.` before the encoder, weight and bias for norms."""
    name = norm_name(unwrapped_name(name))
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def norm_name(name: str) -> str:
    """Return the name with weight and bias for norms, which old files call gamma and beta."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def unwrapped_name(name: str) -> str:
    """Return the name without wrappers of compilers, parallel training and training loops."""
    return WRAPPER.sub("", COMPILER.sub("", name))


def name_with_prefix(name: str, *, encoder: Encoder) -> str:
    """Return a tensor's name with the first part that all of an encoder's rules have in common.

    Names of wrappers are removed, but not "model." in a family that has it itself. The pooler is a
    part of the encoder if its name has the same first part. The name of another part stays.
    """
    firsts = {rule.name.partition(".")[0] for rule in encoder.tensor_rules}
    wrapper = MODULE if "model" in firsts else WRAPPER
    name = norm_name(wrapper.sub("", COMPILER.sub("", name)))
    rules = encoder.tensor_rules + pooler_rules_of(encoder)
    names = [rule.name.split(".") for rule in rules]
    parts = {part for first, part, *_ in names if first in firsts}
    is_bare = len(firsts) == 1 and name.partition(".")[0] in parts
    return f"{firsts.pop()}.{name}" if is_bare else name
