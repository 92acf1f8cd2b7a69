"""Made ELECTRAs and MPNets: contents of config.json, and models of transformers at random."""

from typing import Any, NamedTuple

import numpy as np

from adapler_jax.types import Batch, EncoderConfig
from adapler_jax.weights.config import encoder_config

SIZES = {
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}


class Made(NamedTuple):
    """A family of encoders with the sizes of its tests."""

    title: str  # the beginning of the names of its classes
    raw: dict[str, Any]  # of config.json
    padding: int = 0  # the padding token

    @property
    def config(self) -> EncoderConfig:
        """The config of the encoder, of 16 positions."""
        rows = 16 + (self.padding + 1 if self.padding else 0)
        return encoder_config(self.raw | {"max_position_embeddings": rows}, "config.json")


ELECTRA = SIZES | {"model_type": "electra", "embedding_size": 12}
MADE = {
    "electra": Made("Electra", ELECTRA),
    "electra without projection": Made("Electra", ELECTRA | {"embedding_size": 16}),
    "mpnet": Made("MPNet", SIZES | {"model_type": "mpnet"}, padding=1),
}


def torch_model(family, kind="ForSequenceClassification", seed=0, **changes):
    """A model of transformers; biases and norms are moved, so that a mix-up shows."""
    import torch
    import transformers

    torch.manual_seed(seed)
    made = MADE[family]
    contents = made.raw | {"pad_token_id": made.padding, "num_labels": 3} | changes
    del contents["model_type"]
    config = getattr(transformers, f"{made.title}Config")(
        **contents, attn_implementation="eager", classifier_dropout=0.3
    )
    model = getattr(transformers, made.title + kind)(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias") or "Norm" in name:
                value.add_(0.2 * torch.randn_like(value))
    return model


def make_batch(family, lengths, num_slots=None):
    """Texts of random tokens, in two segments where the family has them."""
    made, rng = MADE[family], np.random.default_rng(0)
    valid_BL = np.arange(num_slots or max(lengths)) < np.array(lengths)[:, None]
    segment_BL = np.cumsum(rng.integers(2, size=valid_BL.shape), axis=1) > valid_BL.shape[1] // 4
    has_segments = made.config.num_segments > 1
    return Batch(
        token_BL=np.where(valid_BL, rng.integers(5, 50, valid_BL.shape), made.padding).astype("i4"),
        segment_BL=np.where(valid_BL & has_segments, segment_BL, 0).astype(np.int32),
        valid_BL=valid_BL,
        label_B=np.zeros(len(lengths), np.int32),
        example_id_B=np.arange(len(lengths), dtype=np.int32),
    )


def torch_inputs(family, batch):
    """A batch as transformers takes it."""
    import torch

    names = {"input_ids": batch.token_BL, "attention_mask": batch.valid_BL}
    if MADE[family].config.num_segments > 1:
        names["token_type_ids"] = batch.segment_BL
    return {name: torch.tensor(array, dtype=torch.long) for name, array in names.items()}


def torch_results(family, model, batch):
    """All results of transformers, as NumPy arrays by their names."""
    import torch

    with torch.no_grad():
        found = model(**torch_inputs(family, batch), output_hidden_states=True)
    names = ("logits", "start_logits", "end_logits")
    results = {name: found[name].numpy() for name in names if name in found}
    return results | {"states": found.hidden_states[-1].numpy()}
