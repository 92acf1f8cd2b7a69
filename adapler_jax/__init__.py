"""Token pruning for BERT-type text models in JAX: dropped tokens become seconds."""

__version__ = "0.1.0"
