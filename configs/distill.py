"""A shallower BERT on one task, the other way to a faster model: --config=configs/distill.py:TASK[,finetuned][,debug]

The student takes layers of the fine-tuned model and learns from its soft labels. Its directory is a model like any
other: tokens are pruned on top of it with `--config=configs/adapler.py:TASK --config.model=RUN/distill/model`.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """The run's config; `argument` is "task[,finetuned][,debug]", with the tasks of `configs/adapler.py`."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], distill=sections.distill_section())
    config.method = "distill"
    common.apply_variants(config, variants, common.VARIANTS)
    return config
