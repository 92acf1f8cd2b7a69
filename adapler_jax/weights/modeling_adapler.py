"""A BERT classifier that drops tokens, for PyTorch. Needs torch and transformers alone.

    model = AutoModelForSequenceClassification.from_pretrained(FOLDER, trust_remote_code=True)

adapler_jax writes this file next to the weights. One array holds the tokens of a batch, text after
text, so that a text costs its own remaining tokens only. Attention alone pads, to the longest text.

Arrays end in their shape, one letter an axis:

    B texts                   T tokens of all texts            H attention heads
    L slots of a text         R tokens of the longest text     K size of a head
    D hidden entries          Q tokens that attend, R or 1     C classes
    F feed-forward entries    X slots of all texts, B L
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import BertConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import ModelOutput

ROUNDING = 1e-3  # a share of a text that is whole but for rounding counts as whole
RELATIVE_TOLERANCE = 1e-6  # of AdapLeR's threshold


@dataclasses.dataclass
class ClassifierOutput(ModelOutput):
    """Results of a batch."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None  # float32 [B, C]
    kept: torch.Tensor | None = None  # int64 [B, L], the layers that ran on each token


class Tokens:
    """The remaining tokens of every text; each text has its first one, [CLS]."""

    def __init__(self, mask_BX, hidden_TD, slot_T, token_T) -> None:
        """Lay out the texts with the true entries of a mask, bool.

        Slots are the tokens' places in the flat batch, and tokens their ids, int64.
        """
        self.hidden_TD, self.slot_T, self.token_T = hidden_TD, slot_T, token_T
        self.num_B1 = mask_BX.sum(dim=1, keepdim=True)
        self.first_B = (self.num_B1.cumsum(dim=0) - self.num_B1)[:, 0]
        lane_R = torch.arange(int(self.num_B1.max()), device=mask_BX.device)
        self.valid_BR = lane_R < self.num_B1
        self.is_first_R = lane_R == 0
        self.index_BR = torch.where(self.valid_BR, lane_R + self.first_B[:, None], 0)

    def select(self, keep_BR: torch.Tensor) -> "Tokens":
        """Return some of the tokens."""
        kept_T = self.index_BR[keep_BR]
        return Tokens(keep_BR, self.hidden_TD[kept_T], self.slot_T[kept_T], self.token_T[kept_T])


def above_threshold(threshold, score_BR, tokens: Tokens) -> torch.Tensor:
    """AdapLeR: softmax(z) >= threshold / n."""
    share_BR = score_BR.masked_fill(~tokens.valid_BR, -torch.inf).softmax(dim=-1)
    return share_BR >= threshold * (1.0 - RELATIVE_TOLERANCE) / tokens.num_B1


def probable(value, score_BR, tokens: Tokens) -> torch.Tensor:
    """TR-BERT: the policy's probability is at least a half."""
    return score_BR.sigmoid() >= 0.5


def received(threshold, score_BR, tokens: Tokens) -> torch.Tensor:
    """LTP: the mean attention received is above a threshold."""
    return score_BR / tokens.num_B1 > threshold


def highest(count, score_BR, tokens: Tokens) -> torch.Tensor:
    """PoWER-BERT: the highest scores of a text, of equal ones the first."""
    ranked_BR = score_BR.masked_fill(~tokens.valid_BR, -torch.inf)
    ranked_BR = ranked_BR.masked_fill(tokens.is_first_R, torch.inf)
    order_BR = ranked_BR.argsort(dim=-1, descending=True, stable=True)
    return order_BR.argsort(dim=-1) < count


def highest_share(share, score_BR, tokens: Tokens) -> torch.Tensor:
    """Methods without training: a share of every text, rounded up, and at least one token."""
    count_B1 = (share * tokens.num_B1 - ROUNDING).ceil().clamp(min=1.0)
    return highest(count_B1, score_BR, tokens)


class Kind(NamedTuple):
    """A method that drops tokens."""

    prefix: str  # of its tensors
    keep: Callable  # (value of a layer, score_BR, tokens) -> bool [B, R]
    values: tuple[str, ...]  # tensors with a number for each layer; the first is for `keep`
    before_attention: bool = False  # else between the halves of a layer, by attention received
    networks: bool = False  # that score states
    table: bool = False  # with a score for each entry of the vocabulary


KINDS = {
    "adapler": Kind(
        "contribution_predictor", above_threshold, ("threshold", "cls_ratio"), True, networks=True
    ),
    "attention": Kind("attention_received", highest_share, ("share",)),
    "ltp": Kind("ltp", received, ("threshold",)),
    "powerbert": Kind("power_bert", highest, ("retention",)),
    "trbert": Kind("token_selector", probable, (), True, networks=True),
    "vocabulary": Kind("vocabulary", highest_share, ("share",), True, table=True),
}


class Rule(nn.Module):
    """The tensors of a method, and its choice of tokens."""

    def __init__(self, config: BertConfig, name: str, options: dict) -> None:
        """Make the tensors."""
        super().__init__()
        self.name, self.kind, self.layers = name, KINDS[name], list(range(config.num_hidden_layers))
        self.activation = ACT2FN["gelu" if name == "trbert" else config.hidden_act]
        if name == "trbert":
            self.layers = options.get("layers") or sorted({1, config.num_hidden_layers // 2})
        if self.kind.table:
            self.layers = [0]
            self.saliency = nn.Parameter(torch.zeros(1, config.vocab_size))
        for value in self.kind.values:
            setattr(self, value, nn.Parameter(torch.zeros(len(self.layers))))
        if self.kind.networks:
            dim = config.scorer_dim
            for place in range(len(self.layers)):
                parts = {"hidden": nn.Linear(config.hidden_size, dim), "score": nn.Linear(dim, 1)}
                self.add_module(str(place), nn.ModuleDict(parts))

    def keep(self, layer: int, tokens: Tokens, prob_BHRR=None, value_BHRK=None) -> torch.Tensor:
        """Return the tokens that stay in a layer, by its attention where needed, bool [B, R]."""
        place = self.layers.index(layer)
        if prob_BHRR is not None:
            if self.name == "attention":
                prob_BHRR = prob_BHRR * value_BHRK.norm(dim=-1)[:, :, None]
            prob_BRR = prob_BHRR.mean(dim=1) * tokens.valid_BR[:, :, None]
            if self.name == "powerbert":
                prob_BRR = prob_BRR - torch.diag_embed(prob_BRR.diagonal(dim1=1, dim2=2))
            score_BR = prob_BRR.sum(dim=1)
        elif self.kind.table:
            score_BR = self.saliency[place, tokens.token_T][tokens.index_BR]
        else:
            network = getattr(self, str(place))
            score_T1 = network["score"](self.activation(network["hidden"](tokens.hidden_TD)))
            score_BR = score_T1[:, 0][tokens.index_BR]
        value = getattr(self, self.kind.values[0])[place] if self.kind.values else None
        keep_BR = self.kind.keep(value, score_BR.float(), tokens) | tokens.is_first_R
        return keep_BR & tokens.valid_BR


class Layer(nn.Module):
    """One layer of BERT in its two halves."""

    def __init__(self, config: BertConfig) -> None:
        """Make the tensors."""
        super().__init__()
        D, F = config.hidden_size, config.intermediate_size
        self.num_heads, self.activation = config.num_attention_heads, ACT2FN[config.hidden_act]
        parts = nn.ModuleDict({name: nn.Linear(D, D) for name in ("query", "key", "value")})
        self.attention: Any = nn.ModuleDict({"self": parts, "output": _output(config, D)})
        self.intermediate: Any = nn.ModuleDict({"dense": nn.Linear(D, F)})
        self.output: Any = _output(config, F)

    def attend(self, tokens: Tokens, *, first_only: bool, is_ranked: bool) -> tuple:
        """Return the states after the attention half, probabilities and values of all heads.

        With `first_only` states are of [CLS], [B, D]. Without `is_ranked` probabilities are None.
        """
        hidden_TD, index_BR, parts = tokens.hidden_TD, tokens.index_BR, self.attention["self"]
        query_TD = parts["query"](hidden_TD[tokens.first_B] if first_only else hidden_TD)
        query_BHQK = self._by_head(query_TD[:, None] if first_only else query_TD[index_BR])
        key_BHRK, value_BHRK = (
            self._by_head(parts[name](hidden_TD)[index_BR]) for name in ("key", "value")
        )
        mask_B11R, prob_BHQR = tokens.valid_BR[:, None, None], None
        if is_ranked:
            logit_BHQR = query_BHQK @ key_BHRK.mT / query_BHQK.shape[-1] ** 0.5
            prob_BHQR = logit_BHQR.masked_fill(~mask_B11R, -torch.inf).softmax(dim=-1)
            attended_BHQK = prob_BHQR @ value_BHRK
        else:
            attended_BHQK = scaled_dot_product_attention(
                query_BHQK, key_BHRK, value_BHRK, attn_mask=mask_B11R
            )
        attended_BQD = attended_BHQK.transpose(1, 2).flatten(2)
        attended_TD = attended_BQD[:, 0] if first_only else attended_BQD[tokens.valid_BR]
        hidden_TD = hidden_TD[tokens.first_B] if first_only else hidden_TD
        return _add(self.attention["output"], attended_TD, hidden_TD), prob_BHQR, value_BHRK

    def feed_forward(self, hidden_TD: torch.Tensor) -> torch.Tensor:
        """Return the states after the feed-forward half."""
        inner_TF = self.activation(self.intermediate["dense"](hidden_TD))
        return _add(self.output, inner_TF, hidden_TD)

    def _by_head(self, x_BRD: torch.Tensor) -> torch.Tensor:
        """Return an array as [B, H, R, K]."""
        return x_BRD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _output(config: BertConfig, inner_dim: int) -> nn.ModuleDict:
    """Return the linear map and the norm that end a half of a layer."""
    dense = nn.Linear(inner_dim, config.hidden_size)
    norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
    return nn.ModuleDict({"dense": dense, "LayerNorm": norm})


def _add(half: nn.ModuleDict, inner: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return norm(residual + W inner)."""
    return half["LayerNorm"](half["dense"](inner) + residual)


class AdaplerForSequenceClassification(PreTrainedModel):
    """The classifier; it is for inference, since dropping a token has no gradient."""

    config_class = BertConfig
    base_model_prefix = "bert"

    def __init__(self, config: BertConfig) -> None:
        """Make the tensors of a config.json that adapler_jax wrote."""
        super().__init__(config)
        section, D = config.adapler_jax, config.hidden_size
        tables = {
            "word_embeddings": nn.Embedding(config.vocab_size, D),
            "position_embeddings": nn.Embedding(config.max_position_embeddings, D),
            "token_type_embeddings": nn.Embedding(config.type_vocab_size, D),
            "LayerNorm": nn.LayerNorm(D, eps=config.layer_norm_eps),
        }
        layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.bert: Any = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(tables),
                "encoder": nn.ModuleDict({"layer": layers}),
                "pooler": nn.ModuleDict({"dense": nn.Linear(D, D)}),
            }
        )
        self.classifier = nn.Linear(D, config.num_labels or 0)
        rule = Rule(config, section["pruner"], section["pruner_options"])
        self.add_module(rule.kind.prefix, rule)
        self.rule_name = rule.kind.prefix
        self._keep_in_fp32_modules_strict = {"threshold", "share", "retention", "saliency"}
        self.post_init()

    def forward(
        self, input_ids, attention_mask=None, token_type_ids=None, labels=None, **unused
    ) -> ClassifierOutput:
        """Classify texts whose tokens begin in the first slot.

        Arguments are int64 [B, L], as the tokenizer returns them, and labels int64 [B].
        """
        mask_BL = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        is_empty_B = ~mask_BL.any(dim=1)
        valid_BL = mask_BL.to(torch.bool, copy=True)
        valid_BL[:, 0] |= is_empty_B
        slot_T = valid_BL.flatten().nonzero()[:, 0]
        segment_BL = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        token_T = input_ids.flatten()[slot_T]
        tables = self.bert["embeddings"]
        hidden_TD = tables["LayerNorm"](
            tables["word_embeddings"](token_T)
            + tables["position_embeddings"](slot_T % valid_BL.shape[1])
            + tables["token_type_embeddings"](segment_BL.flatten()[slot_T])
        )
        tokens = Tokens(valid_BL, hidden_TD, slot_T, token_T)
        hidden_BD, kept_X = self._run_layers(tokens, torch.zeros_like(input_ids).flatten())
        pooled_BD = self.bert["pooler"]["dense"](hidden_BD).tanh()
        logits_BC = self.classifier(pooled_BD).masked_fill(is_empty_B[:, None], 0.0)
        return ClassifierOutput(
            loss=None if labels is None else cross_entropy(logits_BC, labels),
            logits=logits_BC,
            kept=kept_X.view_as(input_ids) * ~is_empty_B[:, None],
        )

    def _run_layers(self, tokens: Tokens, kept_X: torch.Tensor) -> tuple:
        """Return the states of [CLS], float32 [B, D], and the layers of each slot, int64 [B L]."""
        rule, layers = getattr(self, self.rule_name), self.bert["encoder"]["layer"]
        is_before = rule.kind.before_attention
        for index, layer in enumerate(layers):
            is_last, drops = index == len(layers) - 1, index in rule.layers
            if is_last and not is_before and len(layers) > 1:
                drops = False  # [CLS] alone goes through the second half of the last layer
            if drops and is_before:
                tokens = tokens.select(rule.keep(index, tokens))
            is_ranked = drops and not is_before
            first_only = is_last and not is_ranked
            hidden_TD, *by_head = layer.attend(tokens, first_only=first_only, is_ranked=is_ranked)
            if not first_only:
                tokens.hidden_TD = hidden_TD
            if is_ranked:
                tokens = tokens.select(rule.keep(index, tokens, *by_head))
            kept_X[tokens.slot_T] += 1
            if is_last:
                tokens.hidden_TD = hidden_TD if first_only else tokens.hidden_TD[tokens.first_B]
            tokens.hidden_TD = layer.feed_forward(tokens.hidden_TD)
        return tokens.hidden_TD, kept_X
