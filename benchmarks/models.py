"""Encoder sizes that benchmarks run on random weights, by the names that --models takes."""

import dataclasses

from adapler_jax.inference.autotune.workloads import SHAPES

MINILM = SHAPES["minilm"]
QUICK = dataclasses.replace(MINILM, num_layers=2, vocab_size=1000)
MODELS = SHAPES | {"quick": QUICK}
