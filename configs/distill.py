"""Train a shallower BERT on one task, another way to a faster model.

    python train.py --config=configs/distill.py:TASK[,finetuned][,debug] --workdir=W

The student takes layers of the fine-tuned model and learns from that model's soft labels. Other
methods can prune its tokens too: `--config=configs/adapler.py:TASK
--config.model=W/distill/model`. Scores, speedups and times are in docs/methods.md.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """Return the config of a run; `argument` is "task[,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], distill=sections.distill_section())
    config.method = "distill"
    common.apply_variants(config, variants, common.VARIANTS)
    return config
