"""Encoder sizes that benchmarks run on random weights, by the names that --models takes."""

import dataclasses

from adapler_jax.encoders.modernbert import MODERNBERT
from adapler_jax.inference.autotune.workloads import SHAPES

MINILM = SHAPES["minilm"]
QUICK = dataclasses.replace(MINILM, num_layers=2, vocab_size=1000)
MODERNBERT_BASE = MODERNBERT.config_format.read(
    {
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "vocab_size": 50368,
        "max_position_embeddings": 8192,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    }
)
MODERNBERT_QUICK = dataclasses.replace(
    MODERNBERT_BASE, num_layers=2, hidden_dim=96, ffn_dim=64, vocab_size=1000
)
MODELS = SHAPES | {
    "quick": QUICK,
    "modernbert": MODERNBERT_BASE,
    "modernbert-quick": MODERNBERT_QUICK,
}
