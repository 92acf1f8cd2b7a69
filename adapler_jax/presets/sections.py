"""The sections of training phases, with the default recipes: plain data, so that benchmarks can read them anywhere."""


def finetune_section() -> dict:
    """Plain BERT on the task."""
    return {
        "num_epochs": 3,  # 0 of finetune: the model is fine-tuned on this task already, it is validated and kept
        "batch_size": 32,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,  # global norm; 0: no clipping
        "warmup_ratio": 0.06,  # of all steps
        "hidden_dropout_prob": -1.0,  # negative: the checkpoint's
        "attention_dropout_prob": -1.0,
        "num_checkpoints": 1,  # epochs whose weights are kept
        "early_stopping_patience": 0,  # epochs without a better validation score that end the phase; 0: none do
        "checkpoint_every_steps": 0,  # beside the end of every epoch
    }


def saliency_section() -> dict:
    """What the predictors of AdapLeR are shown."""
    return {
        "num_checkpoints": 1,  # best fine-tuned epochs to average over, at most finetune.num_checkpoints
        "batch_size": 32,
    }


def adapt_section() -> dict:
    """After AdapLeR: thresholds brought to a speedup; where it is a faster one, by training on."""
    return {
        "target_speedups": (),  # FLOPs speedups on validation, a model each; more can be asked for later
        "num_epochs": 1,
        "learning_rate": 1e-4,
    }


def powerbert_section() -> dict:
    """The search for a retention configuration, then the training with it; the default recipe."""
    return {
        "num_epochs": 3,  # of the search, and again of the retraining
        "batch_size": 32,
        "learning_rate": 5e-5,
        "rank_learning_rate": 3e-3,  # of the weights of ranks, in the search
        "rank_l1_coef": 1e-3,  # lambda: on the sum over layers j of j times the mass of the layer's weights
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.06,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": 0.0,  # as in the released program
        "distil_coef": 1.0,  # share of the fine-tuned model's soft labels in the task loss, in both phases
        "round_up": False,  # the ceiling of the mass in place of its floor
        "protects_cls": True,  # [CLS] has the first rank in the search; False: the authors'
        "padding_votes": False,  # padding counts as tokens, in training only; True: the authors'
        "retention": (),  # tokens of each layer, in place of the search
        "retention_from": "",  # or the workdir of another run, whose search is taken
        "early_stopping_patience": 0,  # of the retraining: epochs without a better score that end it; 0: none do
        "checkpoint_every_steps": 0,
    }


def distill_section() -> dict:
    """A shallower model, from layers and soft labels of the fine-tuned one."""
    return finetune_section() | {
        "layers": (),  # of the teacher that the student takes, from 0; empty: every other one
        "distil_coef": 1.0,  # share of the teacher's soft labels in the task loss
    }


def trbert_section() -> dict:
    """Selectors by reinforcement, then with the encoder; the default recipe."""
    return {
        "layers": (),  # in front of which tokens are selected, from 0; empty: 1 and the middle
        "selector_dim": 32,
        "init_num_epochs": 0,  # of the selectors towards the ranks of the importance scores, before the policy
        "policy_num_epochs": 1,
        "joint_num_epochs": 1,
        "batch_size": 32,
        "learning_rate": 5e-5,  # of the encoder, in the joint phase
        "selector_learning_rate": 1e-3,
        "policy_length_coef": 1.0,  # alpha: on the share of tokens that go on, mean over the selections
        "joint_length_coef": 1.0,
        "imitation_ratio": 0.5,  # of the policy phase's steps, in which one sample imitates the importance scores
        "num_samples": 8,  # K: action samples of each text
        "sample_batch_size": 1,  # of those, run at a time; 0: all, several times the memory and on CPUs slower
        "normalize_by_padded_length": False,  # alpha on shares of the padded length; True: the authors'
        "distil_coef": 1.0,  # share of the fine-tuned model's soft labels in the joint phase's task loss
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.1,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": -1.0,
        "checkpoint_every_steps": 0,
    }


def adapler_section() -> dict:
    """Predictors, thresholds and weights together; the default recipe."""
    return {
        "init_from": "finetuned",  # or pretrained
        "num_epochs": 3,
        "batch_size": 32,
        "learning_rate": 5e-5,
        "predictor_learning_rate": 1e-3,
        "threshold_learning_rate": 2e-3,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.06,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": 0.0,  # as in the released program
        "predictor_dim": 32,
        "initial_threshold": 0.25,  # eta of every layer
        "kl_coef": 0.005,  # gamma
        "length_coef": 3.0,  # phi: on the kept share with relative_length, on tokens summed over layers without
        "length_target": 0.5,  # of the mean length, in the same unit: only what exceeds it counts
        "threshold_noise": 0.7,  # thresholds of a step times exp(u), u uniform within this on both sides
        "distil_coef": 1.0,  # share of the fine-tuned model's soft labels in the task loss
        "relative_length": True,
        "stop_target_gradient": True,
        "clip_cls_ratio": True,
        "slope_schedule": "geometric",  # per step, slope_start to slope_end; or epochs: the authors'
        "slope_start": 10.0,
        "slope_end": 1000.0,
        "checkpoint_selection": "last",  # the model of the last epoch; or authors: the fastest within a point of dense
        "num_checkpoints": 1,
        "checkpoint_every_steps": 0,
    }
