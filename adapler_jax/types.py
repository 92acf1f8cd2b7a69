"""The shape key and the records that pass between the rooms; imports nothing of the library.

Arrays end in their shape, one letter an axis. A file that needs further letters lists them in its
own docstring.

    B examples of a batch              H attention heads
    L token slots of an example        K size of one head
    S token slots as keys              V vocabulary
    R token slots of a bucket          C classes
    D hidden entries                   N layers
    F feed-forward entries             P hidden units of a pruner's scorer
    Q queries, keys and values, joined, 3 D
    T tokens of a buffer that holds all texts of a batch one after another
    G texts that attend together       X any leading axes, as B L or T
    E examples of a whole split        W words of a text
    A answers of an example            M examples, or windows, of several batches
    J sites of a pruner
    0 to 9 an axis of this size

Words used everywhere: *valid* is not padding. *remaining* is valid and not dropped yet. *score* is
a pruner's number for a token. *keep* is the hard decision of a site. *survival* is its soft form,
in [0, 1]. A *site* is a point in a layer where the drivers call a pruner.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array
Params = Any  # nested dict of arrays
# An Array, or None where nothing was requested: as a union, checkers would need a test at each use.
OptionalArray = Any

# Added to the attention logits of masked keys. exp(MASK_BIAS) is exactly 0 in float32.
MASK_BIAS = -10000.0

# Padding rows of the last, incomplete batch carry this example id; they never count in a score or a
# loss.
PADDING_EXAMPLE_ID = -1


class ScanOptions(NamedTuple):
    """Options of a full-width pass over the layers; they change no number."""

    # layers in one step of the loop: compilation takes longer, a backward pass stacks nothing
    unroll: int = 1
    remat: bool = (
        False  # a backward pass recomputes a layer: more time, much less memory, no unrolling
    )


# Types of the operands of the encoder's products, by name.
COMPUTE_DTYPES = {
    "float32": jnp.float32,
    "bfloat16": jnp.bfloat16,
}


def compute_dtype(dtype):
    """Return the entry of COMPUTE_DTYPES for a name, or for a type of NumPy or JAX.

    Raises:
      ValueError: it is another type.
    """
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = dtype
    if not isinstance(name, str) or name not in COMPUTE_DTYPES:
        given = dtype if isinstance(dtype, str) else name
        raise ValueError(f"dtype is {given!r:.60}; expected {' or '.join(COMPUTE_DTYPES)}")
    return COMPUTE_DTYPES[name]


class Rule(NamedTuple):
    """One leaf of the parameter tree and the tensors of a file that hold it.

    A leaf called `kernel` is (in, out) in the tree and (out, in) in a file.
    """

    # holds "{layer}" or "{site}" where a file has one tensor for each and the tree a stack of them
    name: str
    path: tuple[str, ...]
    # Letters without the stacked axis. The leaves of `init` give the sizes of letters that
    # `weights.rules.axis_sizes` lacks.
    axes: str
    # of the first layer that a file has a tensor for; the leaf has ones in the rows before
    start: int = 0

    @property
    def stack(self) -> str:
        """Letter of the axis that stacks tensors: N layers, M sites, or empty for one tensor."""
        return "N" if "{layer}" in self.name else "M" if "{site}" in self.name else ""

    @property
    def transposed(self) -> bool:
        """True if the file holds the transpose of the leaf."""
        return self.path[-1] == "kernel"

    def tensor_names(self, sizes: dict[str, int]) -> list[str]:
        """Return the names in a file, in the order of the layers."""
        if not self.stack:
            return [self.name]
        numbers = range(self.start, sizes[self.stack])
        return [self.name.format(layer=number, site=number) for number in numbers]

    def tensor_shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Return the shape of each of those tensors."""
        axes = reversed(self.axes) if self.transposed else self.axes
        return tuple(sizes[axis] for axis in axes)

    def leaf_shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Return the shape of the leaf."""
        return tuple(sizes[axis] for axis in self.stack + self.axes)


def linear_rules(name: str, path: str, axes: str) -> tuple[Rule, Rule]:
    """Return the rules of a dense layer; `path` has slashes, `axes` is (in, out)."""
    keys = tuple(path.split("/"))
    kernel = Rule(f"{name}.weight", (*keys, "kernel"), axes)
    return kernel, Rule(f"{name}.bias", (*keys, "bias"), axes[-1])


def norm_rules(name: str, path: str) -> tuple[Rule, Rule]:
    """Return the rules of a layer norm over D."""
    keys = tuple(path.split("/"))
    scale = Rule(f"{name}.weight", (*keys, "scale"), "D")
    return scale, Rule(f"{name}.bias", (*keys, "bias"), "D")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes and constants of an encoder; hashable, so it can be a static argument of jax.jit."""

    num_layers: int
    num_heads: int
    hidden_dim: int
    ffn_dim: int
    vocab_size: int
    num_positions: int
    num_segments: int = 2
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_dropout_prob: float = 0.1
    classifier_dropout_prob: float | None = None  # of the head; None for hidden_dropout_prob
    init_std: float = 0.02
    pooler_activation: str = "tanh"  # of the head; relu as in DistilBERT
    has_pooler_norm: bool = False  # the head's first layer has no bias, and a norm after it
    # layers whose states grow from layer to layer: pruners' networks read normalised states
    is_pre_norm: bool = False
    family_options: Any = None  # constants of one family, a hashable record of its own
    family: str = "bert"  # the entry of encoders.ENCODERS that computes it

    @property
    def head_dim(self) -> int:
        """Size K of one attention head."""
        return self.hidden_dim // self.num_heads


class Batch(flax.struct.PyTreeNode):
    """Examples of one padded length, a pytree of NumPy or JAX arrays."""

    token_BL: Array  # int32, right padded
    segment_BL: Array  # int32, 0 or 1
    valid_BL: Array  # bool, False on padding
    label_B: Array  # int32 in [0, C); float32 where a head returns a number
    example_id_B: Array  # int32, PADDING_EXAMPLE_ID on padding rows
    # float32, targets of the contribution predictors, 0 on padding
    saliency_BL: OptionalArray = None
    # float32, a heuristic's importance of each token at each site of a pruner
    importance_BJL: OptionalArray = None
    # float32, logits of the fine-tuned model on this example, in the form of the head's logits
    teacher_logits: Any = None
    # dict of int32 arrays: token slots of inputs and targets of the head, -1 for none; several
    # numbers a text are float32 targets
    head_slots: Any = None
    # float32 in (0, 1]: the budget of each text, for a pruner that is calibrated for budgets; NaN
    # for the trained thresholds
    budget_B: OptionalArray = None
    # float32 in [0, 1], survival of each token in the last layer, for heads that need all states;
    # set by the pass itself, None where nothing is dropped
    survival_BL: OptionalArray = None


class Site(NamedTuple):
    """A point where the drivers call a pruner."""

    layer: int  # from 0
    point: str  # BEFORE_ATTENTION or BEFORE_FEED_FORWARD


BEFORE_ATTENTION = "before_attention"
BEFORE_FEED_FORWARD = "before_feed_forward"

# Needs of a pruner: the fields of TokenFeatures that its `score` uses. Drivers compute no others.
STATE = "state"
COLUMN_ATTENTION = "column_attention"
OTHERS_ATTENTION = "others_attention"
CLS_ATTENTION = "cls_attention"
VALUE_ATTENTION = "value_attention"
POSITION = "position"
TOKEN = "token"
ATTENTION_NEEDS = frozenset({COLUMN_ATTENTION, OTHERS_ATTENTION, CLS_ATTENTION, VALUE_ATTENTION})
NEEDS = ATTENTION_NEEDS | {STATE, POSITION, TOKEN}


class TokenFeatures(flax.struct.PyTreeNode):
    """Features of tokens at a site, in any layout; None for those that no need names.

    The attention is the layer's, so it exists at sites before the feed-forward half. It is a mean
    over the heads, and queries are remaining tokens. `encoders.attention.attention_received` has
    the equations.
    """

    state_XD: OptionalArray = None  # float32, the hidden state
    column_attention_X: OptionalArray = (
        None  # float32, attention that a token receives, summed over queries
    )
    others_attention_X: OptionalArray = (
        None  # float32, the sum without the token's attention to itself
    )
    cls_attention_X: OptionalArray = None  # float32, attention that it receives from [CLS]
    value_attention_X: OptionalArray = None  # float32, the sum times the size of its value
    position_X: OptionalArray = None  # int32, its slot in the text before anything was dropped
    token_X: OptionalArray = None  # int32, its entry of the vocabulary; at a site before layer 0


class SamplingNoise(flax.struct.PyTreeNode):
    """Random numbers of a method that samples; a whole pass has a leading axis N."""

    uniform_BL: Array  # float32 in [0, 1)
    importance_BL: OptionalArray = None  # float32, by which imitating rows choose
    imitate_B: OptionalArray = None  # bool, the imitating rows; one for all layers


class SiteInput(flax.struct.PyTreeNode):
    """All that a pruner sees of the model at a site."""

    token_logit_BL: Array  # float32, `Pruner.score` of each token
    remaining_BL: Array  # bool; at inference: valid, and kept by all earlier sites
    survival_BL: Array  # float32, soft survival that enters the site; 1 on [CLS], 0 on padding
    noise: SamplingNoise | None = None  # in training, for a method that samples
    protected_BL: OptionalArray = None  # bool, tokens that stay whatever the pruner decides
    budget_B: OptionalArray = None  # float32, `Batch.budget_B`


class SoftSelection(flax.struct.PyTreeNode):
    """Result of `Pruner.soft` at one site."""

    score_BL: Array  # float32, sums to 1 over an example, 0 on padding
    bias_BL: Array  # float32, <= 0, added to the key bias
    survival_BL: Array  # float32, soft survival that leaves the site
    scale_BL: OptionalArray = None  # float32, multiplies the states; None for 1


class Selection(flax.struct.PyTreeNode):
    """Result of `Pruner.hard` at one site."""

    score_BL: Array  # float32
    keep_BL: Array  # bool; [CLS] (slot 0) is always kept, padding never


class Trace(flax.struct.PyTreeNode):
    """Record of the sites of one forward pass, layer by layer; all fields None without a pruner.

    At a layer without a site scores are 0 and all that entered leaves.
    """

    score_NBL: OptionalArray = None
    survival_NBL: OptionalArray = None  # soft survival that leaves each site, 0 or 1 at inference
    count_NB: OptionalArray = None  # tokens that leave the site; float32 soft, int32 hard
    # On request, also without a pruner: each token's state when it was dropped or at the end; 0 on
    # padding.
    exit_hidden_BLD: OptionalArray = None
