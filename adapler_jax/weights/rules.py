"""Define the rules between Hugging Face tensor names and our parameter tree.

Reading and writing use one table.

A rule gives the shape of a leaf in letters of the shape key of `types.py`, without a stacked axis.

Further letters: X rows of the position table, Y rows of the segment table, M sites of a pruner, E
two states side by side; 1, 2 and 3 axes of that size. A leaf called `kernel` is (in, out) in the
tree and (out, in) in a file.

Source: the layout with one rule table and all mismatches reported together follows bonsai's
`models/vit/params.py`.
"""

import re
from typing import NamedTuple

from adapler_jax.types import EncoderConfig


class Rule(NamedTuple):
    """One leaf of the tree and the tensors of a file that hold it."""

    # With "{layer}" or "{site}" where the file has one tensor for each and the tree a stack.
    name: str
    path: tuple[str, ...]
    axes: str

    @property
    def stack(self) -> str:
        """Return the letter of the leading axis of a stacked leaf, N or M, or an empty text."""
        return "N" if "{layer}" in self.name else "M" if "{site}" in self.name else ""

    @property
    def transposed(self) -> bool:
        """Return whether the file has the transpose of the leaf."""
        return self.path[-1] == "kernel"

    def tensor_names(self, sizes: dict[str, int]) -> list[str]:
        """Return the names in a file, in layer order."""
        if not self.stack:
            return [self.name]
        return [self.name.format(layer=number, site=number) for number in range(sizes[self.stack])]

    def tensor_shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Return the shape of each of these tensors."""
        return tuple(
            sizes[axis] for axis in (reversed(self.axes) if self.transposed else self.axes)
        )

    def leaf_shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Return the shape of the leaf."""
        return tuple(sizes[axis] for axis in self.stack + self.axes)


def linear_rules(name: str, path: str, axes: str) -> tuple[Rule, Rule]:
    """Return rules for kernel and bias of a dense layer; path with slashes, axes (in, out)."""
    keys = tuple(path.split("/"))
    return Rule(f"{name}.weight", (*keys, "kernel"), axes), Rule(
        f"{name}.bias", (*keys, "bias"), axes[-1]
    )


def norm_rules(name: str, path: str) -> tuple[Rule, Rule]:
    """Return rules for scale and bias of a layer norm over D."""
    keys = tuple(path.split("/"))
    return Rule(f"{name}.weight", (*keys, "scale"), "D"), Rule(f"{name}.bias", (*keys, "bias"), "D")


EMBEDDINGS, LAYER = "bert.embeddings", "bert.encoder.layer.{layer}"

ENCODER_RULES = (
    Rule(f"{EMBEDDINGS}.word_embeddings.weight", ("encoder", "embeddings", "token"), "VD"),
    Rule(f"{EMBEDDINGS}.position_embeddings.weight", ("encoder", "embeddings", "position"), "XD"),
    Rule(f"{EMBEDDINGS}.token_type_embeddings.weight", ("encoder", "embeddings", "segment"), "YD"),
    *norm_rules(f"{EMBEDDINGS}.LayerNorm", "encoder/embeddings/norm"),
    *linear_rules(f"{LAYER}.attention.self.query", "encoder/layers/query", "DD"),
    *linear_rules(f"{LAYER}.attention.self.key", "encoder/layers/key", "DD"),
    *linear_rules(f"{LAYER}.attention.self.value", "encoder/layers/value", "DD"),
    *linear_rules(f"{LAYER}.attention.output.dense", "encoder/layers/attention_output", "DD"),
    *norm_rules(f"{LAYER}.attention.output.LayerNorm", "encoder/layers/attention_norm"),
    *linear_rules(f"{LAYER}.intermediate.dense", "encoder/layers/ffn_in", "DF"),
    *linear_rules(f"{LAYER}.output.dense", "encoder/layers/ffn_out", "FD"),
    *norm_rules(f"{LAYER}.output.LayerNorm", "encoder/layers/ffn_norm"),
)
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
HEAD_RULES = {
    "classification": POOLER_RULES + CLASSIFIER_RULES,
    "choice": POOLER_RULES + CLASSIFIER_RULES,
    "span": SPAN_RULES,
    "candidates": CANDIDATE_RULES,
    "hotpot": HOTPOT_RULES,
}
PRUNER_RULES = {
    "keep_all": (),
    "adapler": (
        *linear_rules("contribution_predictor.{layer}.hidden", "pruner/hidden", "DP"),
        *linear_rules("contribution_predictor.{layer}.score", "pruner/score", "P1"),
        Rule("contribution_predictor.threshold", ("pruner", "threshold_N"), "N"),
        Rule("contribution_predictor.cls_ratio", ("pruner", "cls_ratio_N"), "N"),
    ),
    "powerbert": (Rule("power_bert.retention", ("pruner", "retention_N"), "N"),),
    "trbert": (
        *linear_rules("token_selector.{site}.hidden", "pruner/hidden", "DP"),
        *linear_rules("token_selector.{site}.score", "pruner/score", "P1"),
    ),
}

# Modules that hold a model: of torch.compile, checkpointing and parallel training anywhere in a
# name; of training loops, PEFT and Lightning before it.
COMPILER = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
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
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
OTHER_HEADS = re.compile(
    r"(cls|qa_outputs|candidate_score|answer_type|sentence_hidden|sentence_support"
    r"|lm_head|vocab_transform|vocab_layer_norm|vocab_projector"
    r"|contribution_predictor|power_bert|token_selector)\..*",
    re.DOTALL,
)


def model_rules(pruner_name: str, head_name: str = "classification") -> tuple[Rule, ...]:
    """Return the rules of a whole model.

    Raises:
      ValueError: the pruner or the head has no rules.
    """
    if head_name not in HEAD_RULES:
        raise ValueError(
            f"unknown head {head_name!r}; expected one of {', '.join(sorted(HEAD_RULES))}"
        )
    if pruner_name not in PRUNER_RULES:
        raise ValueError(
            f"unknown pruner {pruner_name!r}; expected one of {', '.join(sorted(PRUNER_RULES))}"
        )
    return ENCODER_RULES + HEAD_RULES[head_name] + PRUNER_RULES[pruner_name]


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
        "1": 1,
        "2": 2,
        "3": 3,
    }


def foreign_part(name: str) -> str | None:
    """Return what is wrong with a tensor that changes the model's results, else None."""
    return next((what for what, pattern in FOREIGN_PARTS.items() if pattern.fullmatch(name)), None)


def canonical_name(name: str) -> str:
    """Return the name in the table: `bert.` before the encoder, weight and bias for norms."""
    name = unwrapped_name(name)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def unwrapped_name(name: str) -> str:
    """Return the name without wrappers of compilers, parallel training and training loops."""
    return WRAPPER.sub("", COMPILER.sub("", name))
