"""Fine-tune in torch for `benchmarks.training`, as users of transformers write it.

It runs in a process of its own.
"""

import numpy as np

from adapler_jax.inference.autotune.timing import seconds_of
from adapler_jax.types import EncoderConfig

NUM_CLASSES = 2


def torch_config(config: EncoderConfig):
    """Return our sizes and dropout in transformers' words."""
    import transformers

    return transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ffn_dim,
        max_position_embeddings=config.num_positions,
        type_vocab_size=config.num_segments,
        hidden_act=config.activation,
        layer_norm_eps=config.norm_epsilon,
        hidden_dropout_prob=config.hidden_dropout_prob,
        attention_probs_dropout_prob=config.attention_dropout_prob,
        num_labels=NUM_CLASSES,
    )


def parameter_groups(model, weight_decay: float) -> list[dict]:
    """Put weight decay on kernels and tables, not on biases and norms."""
    named = list(model.named_parameters())
    plain = [value for name, value in named if name.endswith("bias") or "LayerNorm" in name]
    decayed = [value for name, value in named if not (name.endswith("bias") or "LayerNorm" in name)]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


class TorchTraining:
    """BertForSequenceClassification with AdamW on one batch; bfloat16 by autocast."""

    def __init__(
        self,
        config: EncoderConfig,
        rates,
        batch: dict[str, np.ndarray],
        *,
        dtype: str,
        num_steps: int,
        num_threads: int,
    ):
        """Load the model and the optimizer.

        Args:
          rates: OptimizerConfig.
          batch: int64 arrays by transformers' names, labels among them.
          num_steps: of the rate's schedule.
        """
        import torch
        import transformers

        torch.set_num_threads(num_threads)
        torch.manual_seed(0)
        self._model = transformers.BertForSequenceClassification(torch_config(config)).train()
        self._optimizer = torch.optim.AdamW(
            parameter_groups(self._model, rates.weight_decay),
            lr=rates.learning_rate,
            eps=rates.adam_epsilon,
            fused=True,
        )
        self._schedule = transformers.get_linear_schedule_with_warmup(
            self._optimizer, int(rates.warmup_ratio * num_steps), num_steps
        )
        self._batch = {name: torch.from_numpy(array) for name, array in batch.items()}
        self._clip_norm, self._in_bfloat16 = rates.clip_norm, dtype == "bfloat16"

    def step(self) -> float:
        """Run one step and return the loss."""
        import torch

        with torch.autocast("cpu", torch.bfloat16, enabled=self._in_bfloat16):
            loss = self._model(**self._batch).loss
        loss.backward()
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return loss.item()

    def turn(self) -> list[float]:
        """Return the seconds of one step."""
        return [seconds_of(self.step)]
