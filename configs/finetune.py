"""Plain BERT on one task, the dense model that others are compared with: --config=configs/finetune.py:TASK[,debug]"""

from adapler_jax.presets import common
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """The run's config; `argument` is "task[,debug]", with the tasks and presets of `configs/adapler.py`."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task])
    common.apply_variants(config, variants, {"debug": common.shrink})
    return config
