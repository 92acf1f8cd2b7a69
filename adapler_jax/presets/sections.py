"""Sections of the training phases with the default recipes: plain data, importable anywhere."""

CHECKPOINT_EVERY_MINUTES = 5.0


def finetune_section() -> dict:
    """Return the section that trains plain BERT on the task."""
    return {
        "num_epochs": 3,  # 0 of finetune: keep and validate a model that is fine-tuned already
        "batch_size": 32,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,  # global norm; 0: no clipping
        "warmup_ratio": 0.06,  # of all steps
        "hidden_dropout_prob": -1.0,  # negative: the checkpoint's
        "attention_dropout_prob": -1.0,
        "num_checkpoints": 1,  # best epochs whose weights are kept
        "early_stopping_patience": 0,  # epochs without a better validation score; 0: no stopping
        "checkpoint_every_steps": 0,  # in addition to the end of every epoch
        # In addition to both, where saving takes at most 3% of the time; 0: never.
        "checkpoint_every_minutes": CHECKPOINT_EVERY_MINUTES,
    }


def saliency_section() -> dict:
    """Return the section that computes the targets of AdapLeR's predictors."""
    return {
        "num_checkpoints": 1,  # best fine-tuned epochs to average, at most finetune's
        "batch_size": 32,
    }


def adapt_section() -> dict:
    """Return the section that calibrates AdapLeR's thresholds to target speedups."""
    return {
        "target_speedups": (),  # FLOPs speedups on validation; later calls can add some
        # Train on after scaling: auto, where scaling costs more than max_drop or misses the target;
        # always; never. The better model on validation is kept.
        "train": "auto",
        "max_drop": 0.005,  # fraction of the fine-tuned model's validation score
        "num_epochs": 1,  # of further training
        "learning_rate": 1e-4,
    }


def training_free_section() -> dict:
    """Return the section of a method that needs no training."""
    return {
        "target_speedups": (2.0,),  # FLOPs speedups on training texts; later calls can add some
        "batch_size": 32,
    }


def powerbert_section() -> dict:
    """Return PoWER-BERT's section: the search for a retention configuration, then training."""
    return {
        "target_speedups": (),  # FLOPs speedups on training texts; later calls can add some
        "num_epochs": 3,  # of the search, and again of the training
        "batch_size": 32,
        "learning_rate": 5e-5,
        "rank_learning_rate": 3e-3,  # of the weights of ranks, in the search
        "rank_l1_coef": 1e-3,  # lambda: on the sum over layers j of j times the layer's weights
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.06,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": 0.0,  # the released program's
        "distil_coef": 1.0,  # fraction of the fine-tuned model's soft labels in the task loss
        "round_up": False,  # take the ceiling of a layer's weights, not the floor
        "protects_cls": True,  # [CLS] has the first rank in the search; False: the authors'
        "padding_votes": False,  # padding counts as tokens, in training only; True: the authors'
        "retention": (),  # tokens of each layer; replaces the search
        "retention_from": "",  # workdir of another run, whose search replaces this one
        "early_stopping_patience": 0,  # of the training: epochs without a better score; 0: off
        "checkpoint_every_steps": 0,
        "checkpoint_every_minutes": CHECKPOINT_EVERY_MINUTES,
    }


def distill_section() -> dict:
    """Return the section of a shallower model, made of the fine-tuned model's layers."""
    return finetune_section() | {
        "layers": (),  # of the teacher, from 0; empty: every second layer
        "distil_coef": 1.0,  # fraction of the teacher's soft labels in the task loss
    }


def trbert_section() -> dict:
    """Return TR-BERT's section: selectors by reinforcement, then together with the encoder."""
    return {
        "target_speedups": (),  # FLOPs speedups on validation; later calls can add some
        "layers": (),  # layers with a selector before them, from 0; empty: 1 and the middle
        "selector_dim": 32,
        "init_num_epochs": 0,  # train selectors to imitate importance ranks, before the policy
        "policy_num_epochs": 1,
        "joint_num_epochs": 1,
        "batch_size": 32,
        "learning_rate": 5e-5,  # of the encoder, in the joint phase
        "selector_learning_rate": 1e-3,
        "policy_length_coef": 1.0,  # alpha: on the fraction of tokens kept, mean over the selectors
        "joint_length_coef": 1.0,
        # Fraction of the policy phase's steps in which one sample imitates the importance scores.
        "imitation_ratio": 0.5,
        "num_samples": 8,  # K: action samples of each text
        # Samples that run at one time. 0: all, with several times the memory; slower on CPUs.
        "sample_batch_size": 1,
        "normalize_by_padded_length": False,  # alpha on fractions of padded length; True: authors'
        "distil_coef": 1.0,  # fraction of the soft labels in the joint phase's task loss
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.1,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": -1.0,
        "checkpoint_every_steps": 0,
        "checkpoint_every_minutes": CHECKPOINT_EVERY_MINUTES,
    }


def adapler_section() -> dict:
    """Return AdapLeR's section: predictors, thresholds and weights train together."""
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
        "attention_dropout_prob": 0.0,  # the released program's
        "predictor_dim": 32,
        "initial_threshold": 0.25,  # eta of every layer
        "kl_coef": 0.005,  # gamma
        # phi: on the kept fraction with relative_length, else on tokens summed over the layers.
        "length_coef": 3.0,
        "length_target": 0.5,  # of the mean length, in the same unit: only the excess counts
        "threshold_noise": 0.7,  # a step's thresholds are times exp(u), u uniform in +-this
        "distil_coef": 1.0,  # fraction of the fine-tuned model's soft labels in the task loss
        "relative_length": True,
        "stop_target_gradient": True,
        "clip_cls_ratio": True,
        "slope_schedule": "geometric",  # each step, slope_start to slope_end; or epochs: authors'
        "slope_start": 10.0,
        "slope_end": 1000.0,
        # The model of the last epoch; or authors: the fastest within a point of dense.
        "checkpoint_selection": "last",
        "num_checkpoints": 1,
        "checkpoint_every_steps": 0,
        "checkpoint_every_minutes": CHECKPOINT_EVERY_MINUTES,
    }
