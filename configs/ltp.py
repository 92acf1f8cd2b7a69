"""Train LTP on one task.

    python train.py --config=configs/ltp.py:TASK[,finetuned][,debug] --workdir=W

A layer keeps the tokens whose received attention is above its threshold. A soft phase learns the
thresholds, then a hard phase trains the weights on. A larger `config.ltp.length_coef`, the paper's
lambda, drops more tokens; `config.ltp.target_speedups` sets target speedups. The default recipe
was not measured yet.
"""

from adapler_jax.presets import common
from adapler_jax.presets.tasks import TASKS
from adapler_jax.training.methods.ltp import SECTION


def get_config(argument="sst2"):
    """Return the run's config; `argument` is "task[,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], ltp=SECTION.fields)
    config.method = "ltp"
    common.apply_variants(config, variants, common.VARIANTS)
    return config
