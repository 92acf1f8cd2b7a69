"""Encoder sizes that benchmarks run on random weights."""

import dataclasses

from adapler_jax.types import EncoderConfig

MINILM = EncoderConfig(num_layers=6, num_heads=12, hidden_dim=384, ffn_dim=1536, vocab_size=30522, num_positions=512)
BASE = EncoderConfig(num_layers=12, num_heads=12, hidden_dim=768, ffn_dim=3072, vocab_size=30522, num_positions=512)
QUICK = dataclasses.replace(MINILM, num_layers=2, vocab_size=1000)
