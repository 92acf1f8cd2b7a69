"""Configure the method of the example in add-a-method.md: --config=configs/norm.py:TASK[,debug]."""

from adapler_jax.training.methods.norm import SECTION

from adapler_jax.presets import common
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """Return the run's config; `argument` is "task[,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], norm=SECTION.fields)
    config.method = "norm"
    common.apply_variants(config, variants, common.VARIANTS)
    return config
