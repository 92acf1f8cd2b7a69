"""TR-BERT on one task: --config=configs/trbert.py:TASK[,faithful][,debug]

Two selectors decide of every token whether it goes on. `config.trbert.policy_length_coef` and `joint_length_coef`, the
paper's alpha in two phases, are the dial: more of it, fewer tokens.
"""

from configs import adapler, common, sections

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


def faithful(config):
    """The released program's steps and behaviour."""
    config.data.lengths = (config.data.max_length,)  # shares and padding are of one length
    config.finetune.update({"num_epochs": 5, "learning_rate": 3e-5, "weight_decay": 0.0, "warmup_share": 0.1})
    config.trbert.update(
        {
            "policy_num_epochs": 3,
            "joint_num_epochs": 3,
            "learning_rate": 3e-5,
            "selector_learning_rate": 3e-5,
            "weight_decay": 0.0,
            "by_padded_length": True,
        }
    )


def get_config(argument="sst2"):
    """The run's config; `argument` is "task[,faithful][,debug]", with the tasks of `configs/adapler.py`."""
    task, variants = common.split_argument(argument, adapler.TASKS)
    config = common.task_config(task, adapler.TASKS[task], trbert=sections.trbert_section())
    config.method = "trbert"
    policy, joint = PUBLISHED.get(task, (1.0, 1.0))
    config.trbert.update({"policy_length_coef": policy, "joint_length_coef": joint})
    common.apply_variants(config, variants, {"faithful": faithful, "debug": common.shrink})
    return config
