"""Train PoWER-BERT on one task.

    python train.py --config=configs/powerbert.py:TASK[,paper][,finetuned][,debug] --workdir=W

A search finds how many tokens each layer retains. Then the model is trained with these numbers. A
larger `config.powerbert.rank_l1_coef` retains fewer tokens; `config.powerbert.target_speedups` sets
target speedups. Scores, speedups and times are in docs/methods.md.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS

# learning_rate, rank_learning_rate, rank_l1_coef and batch_size of the released program.
PUBLISHED = {
    "sst2": (3e-5, 5e-4, 2e-4, 64),
    "mrpc": (6e-5, 3e-3, 3e-3, 64),
    "mnli": (3e-5, 2e-4, 1e-4, 64),
    "qnli": (3e-5, 2e-4, 1.5e-4, 16),
}


def paper(config):
    """Set the released program's behaviour, and its numbers where it names the task's."""
    config.data.bucket_lengths = (config.data.max_length,)  # padding counts as tokens there
    config.finetune.num_epochs = 3
    for phase in (config.finetune, config.powerbert):
        phase.update(
            {"weight_decay": 0.0, "adam_epsilon": 1e-7, "clip_norm": 0.0, "warmup_ratio": 0.1}
        )
        phase.update({"attention_dropout_prob": 0.0, "learning_rate": 3e-5})
    config.powerbert.update({"distil_coef": 0.0, "protects_cls": False, "padding_votes": True})
    config.powerbert.update({"rank_learning_rate": 5e-4, "rank_l1_coef": 2e-4})
    if config.task in PUBLISHED:
        rate, rank_rate, rank_l1_coef, batch_size = PUBLISHED[config.task]
        config.finetune.update({"learning_rate": rate, "batch_size": batch_size})
        config.powerbert.update({"learning_rate": rate, "batch_size": batch_size})
        config.powerbert.update({"rank_learning_rate": rank_rate, "rank_l1_coef": rank_l1_coef})


def get_config(argument="sst2"):
    """Return the config of a run; `argument` is "task[,paper][,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], powerbert=sections.powerbert_section())
    config.method = "powerbert"
    common.apply_variants(config, variants, common.VARIANTS | {"paper": paper})
    return config
