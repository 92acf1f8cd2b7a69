"""Families of encoders, one a file. A new family is its file and a line in ENCODERS.

A saved model has the tensor names of its family's `tensor_rules`, and the name of a family other
than BERT's in config.json.
"""

from adapler_jax.encoders.base import Encoder
from adapler_jax.encoders.bert import BERT
from adapler_jax.encoders.electra import ELECTRA
from adapler_jax.encoders.modernbert import MODERNBERT
from adapler_jax.encoders.mpnet import MPNET
from adapler_jax.types import EncoderConfig

ENCODERS: dict[str, Encoder] = {
    "bert": BERT,
    "electra": ELECTRA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
}


def encoder_of(config: EncoderConfig) -> Encoder:
    """Return the encoder of a config's family.

    Raises:
      ValueError: there is no such family.
    """
    if config.family not in ENCODERS:
        raise ValueError(
            f"unknown encoder family {config.family!r:.60}; expected one of {', '.join(ENCODERS)}"
        )
    encoder = ENCODERS[config.family]
    return encoder if encoder.variant is None else encoder.variant(config)


__all__ = ["ENCODERS", "Encoder", "encoder_of"]
