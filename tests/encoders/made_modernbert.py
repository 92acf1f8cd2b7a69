"""Made ModernBERTs: contents of config.json, and models of transformers with random weights."""

import json

import jax
import numpy as np

from adapler_jax.encoders.modernbert_config import read_fields

SIZES = {
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 320,
    "initializer_range": 0.3,
    "local_attention": 8,
}
ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
RAW = SIZES | {"model_type": "modernbert", "rope_parameters": ROPE}
CONFIG = read_fields(RAW | {"max_position_embeddings": 16, "local_attention": 4})


def old_form(raw):
    """Contents of config.json in the keys of older files."""
    newer = ("rope_parameters", "layer_types")
    thetas = [raw["rope_parameters"][kind]["rope_theta"] for kind in ROPE]
    return {key: value for key, value in raw.items() if key not in newer} | {
        "global_rope_theta": thetas[0],
        "local_rope_theta": thetas[1],
        "global_attn_every_n_layers": 3,
    }


def torch_model(kind="ModernBertForSequenceClassification", seed=0, **changes):
    """A model of transformers; norms are moved from 1, so that a mix-up shows."""
    import torch
    import transformers

    torch.manual_seed(seed)
    contents = SIZES | {"pad_token_id": 0, "num_labels": 3, "rope_parameters": ROPE} | changes
    config = transformers.ModernBertConfig(**contents, attn_implementation="eager")
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                value.add_(0.2 * torch.randn_like(value))
    return model


def rewrite_config(folder, change):
    """Replace the contents of a folder's config.json by what `change` returns for them."""
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def random_params(config, head, *, num_classes=3, pruner=None, seed=3):
    """Random parameters of a model, norms moved from 1."""
    from adapler_jax.encoders import encoder_of

    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "encoder": encoder_of(config).init(keys[0], config),
        "head": head.init(keys[1], config, num_classes),
        "pruner": {} if pruner is None else pruner.init(keys[2], config),
    }
    rng = np.random.default_rng(seed)

    def moved(path, leaf):
        """A leaf, and a scale of a norm that is not 1."""
        is_norm = path[-1].key == "scale"
        return leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32) if is_norm else leaf

    return jax.tree_util.tree_map_with_path(moved, params)
