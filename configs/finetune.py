"""Train plain BERT on one task: the dense model that other models are compared with.

python train.py --config=configs/finetune.py:TASK[,debug] --workdir=W
"""

from adapler_jax.presets import common
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """Return the config of a run; `argument` is "task[,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task])
    common.apply_variants(config, variants, {"debug": common.shrink})
    return config
