"""The sections of training phases, with the default recipes: plain data, so that benchmarks can read them anywhere."""


def finetune_section() -> dict:
    """Plain BERT on the task."""
    return {
        "num_epochs": 3,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,  # global norm; 0: no clipping
        "warmup_share": 0.06,  # of all steps
        "hidden_dropout_prob": -1.0,  # negative: the checkpoint's
        "attention_dropout_prob": -1.0,
        "num_best": 1,  # epochs whose weights are kept
        "checkpoint_every_steps": 0,  # beside the end of every epoch
    }


def adapler_section() -> dict:
    """Predictors, thresholds and weights together; the default recipe."""
    return {
        "start": "finetuned",  # or pretrained
        "num_epochs": 3,
        "batch_size": 32,
        "learning_rate": 5e-5,
        "predictor_learning_rate": 1e-3,
        "threshold_learning_rate": 2e-3,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_share": 0.06,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": 0.0,  # as in the released program
        "predictor_dim": 32,
        "initial_threshold": 0.25,  # eta of every layer
        "contribution_coef": 0.005,  # gamma
        "length_coef": 3.0,  # phi: on the kept share with relative_length, on tokens summed over layers without
        "length_target": 0.5,  # of the mean length, in the same unit: only what exceeds it counts
        "threshold_spread": 0.7,  # thresholds of a step times exp(u), u uniform within this on both sides
        "distil_coef": 1.0,  # share of the fine-tuned model's soft labels in the task loss
        "relative_length": True,
        "constant_targets": True,
        "bound_cls_ratio": True,
        "slope_schedule": "geometric",  # per step, slope_first to slope_last; or epochs: the authors'
        "slope_first": 10.0,
        "slope_last": 1000.0,
        "choose": "last",  # the model of the last epoch; or authors: the fastest within a point of dense
        "num_best": 1,
        "checkpoint_every_steps": 0,
    }
