"""Make a fine-tuned model faster without training.

    python train.py --config=configs/attention.py:TASK[,finetuned][,debug] --workdir=W

Each layer keeps a share of every text: the tokens that receive the most attention. The shares
follow from the lengths of the training texts and from `config.attention.target_speedups`. Only the
fine-tuning uses labels; `finetuned` leaves it out.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """Return the config of a run; `argument` is "task[,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], attention=sections.training_free_section())
    config.method = "attention"
    common.apply_variants(config, variants, common.VARIANTS)
    return config
