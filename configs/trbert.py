"""Train TR-BERT on one task.

    python train.py --config=configs/trbert.py:TASK[,paper][,finetuned][,debug] --workdir=W

Two selectors decide for every token whether later layers process it. Larger values of
`config.trbert.policy_length_coef` and `joint_length_coef`, the paper's alpha in two phases, keep
fewer tokens; `config.trbert.target_speedups` sets target speedups. Scores, speedups and times are
in docs/methods.md.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS

# alpha of the policy and of the joint phase in the released program.
PUBLISHED = {
    "imdb": (1.0, 1.0),
    "yelp_full": (2.0, 0.5),
    "20newsgroups": (1.0, 1.0),
    "hyperpartisan": (0.01, 0.01),
    "squad2": (5.0, 5.0),
    "newsqa": (3.0, 5.0),
    "natural_questions": (2.0, 2.0),
    "race": (0.5, 0.1),
    "triviaqa": (0.5, 1.0),
    "hotpotqa": (0.1, 4.0),
}


# Learning rate, epochs, warmup_ratio and imitation_ratio of its scripts for questions. (Its
# scripts for HotpotQA and TriviaQA warm up for 1,000 steps; its HotpotQA script imitates in whole
# epochs.)
SCRIPTS = {
    "squad": (5e-5, 3, 0.1, 0.2),
    "squad2": (5e-5, 3, 0.1, 0.2),
    "newsqa": (5e-5, 3, 0.0, 0.2),
    "natural_questions": (5e-5, 3, 0.0, 0.2),
    "race": (2e-5, 3, 0.0, 0.5),
    "hotpotqa": (5e-5, 3, 0.1, 0.5),
    "triviaqa": (3e-5, 5, 0.1, 0.2),
    "wikihop": (5e-5, 5, 0.1, 0.5),
}


def paper(config):
    """Set the released program's recipe and behaviour."""
    config.data.bucket_lengths = (config.data.max_length,)  # the length loss uses the padded length
    config.finetune.update(
        {"num_epochs": 5, "learning_rate": 3e-5, "weight_decay": 0.0, "warmup_ratio": 0.1}
    )
    config.trbert.update(
        {
            "policy_num_epochs": 3,
            "joint_num_epochs": 3,
            "learning_rate": 3e-5,
            "selector_learning_rate": 3e-5,
            "weight_decay": 0.0,
            "normalize_by_padded_length": True,
        }
    )
    if config.task in SCRIPTS:
        rate, num_epochs, warmup_ratio, imitation_ratio = SCRIPTS[config.task]
        config.finetune.update(
            {"num_epochs": num_epochs, "learning_rate": rate, "warmup_ratio": warmup_ratio}
        )
        config.trbert.update(
            {
                "policy_num_epochs": num_epochs,
                "joint_num_epochs": num_epochs,
                "learning_rate": rate,
                "selector_learning_rate": rate,
                "warmup_ratio": warmup_ratio,
                "imitation_ratio": imitation_ratio,
            }
        )
        config.qa.update(
            {"score_options_independently": config.task == "race", "protects_markers": False}
        )


def get_config(argument="sst2"):
    """Return the config of a run; `argument` is "task[,paper][,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], trbert=sections.trbert_section())
    config.method = "trbert"
    if task in PUBLISHED:
        policy, joint = PUBLISHED[task]
        config.trbert.update({"policy_length_coef": policy, "joint_length_coef": joint})
    common.apply_variants(config, variants, common.VARIANTS | {"paper": paper})
    return config
