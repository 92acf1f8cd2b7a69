"""Make a fine-tuned model faster without training.

    python train.py --config=configs/vocabulary.py:TASK[,finetuned][,debug] --workdir=W

One number for each entry of the vocabulary, its mean saliency in the training texts, chooses the
tokens that enter the encoder. `config.vocabulary.target_speedups` has the speedups. Only the
fine-tuning uses labels; `finetuned` leaves it out.
"""

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def get_config(argument="sst2"):
    """Return the config of a run; `argument` is "task[,finetuned][,debug]"."""
    task, variants = common.split_argument(argument, TASKS)
    config = common.task_config(task, TASKS[task], vocabulary=sections.training_free_section())
    config.method = "vocabulary"
    common.apply_variants(config, variants, common.VARIANTS)
    return config
