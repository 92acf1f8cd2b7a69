"""The shape key and the records that travel between the rooms of the library.

Arrays end in their shape, one letter an axis:

    B batch                 D hidden                P hidden units of a contribution predictor
    L token slots           F feed-forward          V vocabulary
    S slots attended to     H heads                 C classes
    R slots after dropping  K size of one head      N layers (a stacked leading axis)

Words used everywhere: *valid* is not padding; *score* is what a pruner gives a token; *keep* survives a site for
good (inference); *weight* is the soft survival in [0, 1] (training); a *site* is a place where a pruner is called.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

# Added to the attention logits of keys that must not be read. exp(MASK_BIAS) is exactly 0 in float32.
MASK_BIAS = -10000.0

# A filler row of the last, incomplete batch carries this example id; it never counts in a score or a loss.
PADDING_EXAMPLE_ID = -1


class ScanOptions(NamedTuple):
    """How a pass at full width walks its layers; changes no number."""

    unroll: int = 1  # layers written out one after another: longer compilation, and a backward pass stacks nothing
    remat: bool = False  # a backward pass computes a layer's inner states anew: more time, much less memory; no unrolling


COMPUTE_DTYPES = {
    "float32": jnp.float32,
    "bfloat16": jnp.bfloat16,
}  # of the operands of the encoder's products


def compute_dtype(dtype):
    """The entry of COMPUTE_DTYPES for its name, or for what NumPy and JAX call it. Raises ValueError on any other."""
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = dtype
    if not isinstance(name, str) or name not in COMPUTE_DTYPES:
        given = dtype if isinstance(dtype, str) else name
        raise ValueError(f"dtype is {given!r:.60}; expected {' or '.join(COMPUTE_DTYPES)}")
    return COMPUTE_DTYPES[name]


Params = Any  # nested dict of arrays


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes and constants of a BERT encoder; hashable, so it can be a static argument of jax.jit."""

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

    @property
    def head_dim(self) -> int:
        """Size K of one attention head."""
        return self.hidden_dim // self.num_heads


@flax.struct.dataclass
class Batch:
    """Examples of one padded length; a pytree of arrays (NumPy on the data side, JAX inside a step)."""

    token_BL: jax.Array  # int32, right padded
    segment_BL: jax.Array  # int32, 0 or 1
    valid_BL: jax.Array  # bool, False on padding
    label_B: jax.Array  # int32 in [0, C)
    example_id_B: jax.Array  # int32, PADDING_EXAMPLE_ID on filler rows
    saliency_BL: jax.Array | None = (
        None  # float32, targets of the contribution predictors, 0 on padding
    )
    importance_BSL: jax.Array | None = (
        None  # float32, what a heuristic makes of each token at the S sites of a pruner
    )
    teacher_logits: Any = (
        None  # float32, logits of the fine-tuned model on this example, as the head gives them
    )
    head_slots: Any = None  # dict of int32 arrays: token slots that the head reads or is trained by, -1 for fillers


class Site(NamedTuple):
    """A place where the drivers call a pruner."""

    layer: int  # from 0
    point: str  # BEFORE_ATTENTION or BEFORE_FEED_FORWARD


BEFORE_ATTENTION = "before_attention"
BEFORE_FEED_FORWARD = "before_feed_forward"


@flax.struct.dataclass
class SamplingNoise:
    """What decides the actions of a method that samples them. With a leading axis of layers for a whole pass."""

    uniform_BL: jax.Array  # float32 in [0, 1)
    importance_BL: jax.Array | None = (
        None  # float32, by which imitating rows choose; None where none does
    )
    imitate_B: jax.Array | None = None  # bool, the rows that do; one for all layers


@flax.struct.dataclass
class SiteInput:
    """All that a pruner sees of the model at a site."""

    # float32: what the pruner's `score` makes of each token's state; before the feed-forward half what
    # `encoder.attention_significance` makes of the attention just paid
    token_logit_BL: jax.Array
    remaining_BL: jax.Array  # bool; at inference: the token is real and survived all earlier sites
    survival_BL: jax.Array  # float32 soft survival entering the site; 1 on [CLS], 0 on padding
    noise: SamplingNoise | None = None  # in training, for a method that samples
    protected_BL: jax.Array | None = None  # bool: tokens that stay whatever the pruner says


@flax.struct.dataclass
class SoftSelection:
    """Result of `soft` for one site."""

    score_BL: jax.Array  # float32, sums to 1 over an example, 0 on padding
    bias_BL: jax.Array  # float32, <= 0, what this site adds to the key bias
    survival_BL: jax.Array  # float32, soft survival leaving the site
    scale_BL: jax.Array | None = None  # float32, multiplies the states; None for 1


@flax.struct.dataclass
class Selection:
    """Result of `hard` for one site."""

    score_BL: jax.Array  # float32
    keep_BL: jax.Array  # bool; [CLS] (slot 0) is always kept, padding never


@flax.struct.dataclass
class Trace:
    """What happened at the sites of one forward pass, layer by layer; all fields None without a pruner.

    At a layer without a site scores are 0 and all that entered leaves.
    """

    score_NBL: jax.Array | None = None
    survival_NBL: jax.Array | None = None  # soft survival *leaving* each site (0 or 1 at inference)
    count_NB: jax.Array | None = None  # tokens that leave the site; float32 soft, int32 hard
    # Where asked for, also without a pruner: the state of every token when it was dropped or at the end; 0 on padding.
    exit_hidden_BLD: jax.Array | None = None
