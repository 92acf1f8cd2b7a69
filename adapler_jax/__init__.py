"""Token pruning for BERT-type text models in JAX: dropped tokens become seconds."""
