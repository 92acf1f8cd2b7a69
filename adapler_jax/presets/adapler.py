"""Build the config of AdapLeR for a task, before its variants."""

import ml_collections

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def adapler_config(task: str, *, has_student: bool = False) -> ml_collections.ConfigDict:
    """Return the config of AdapLeR on one of `tasks.TASKS`.

    Args:
      task: name of the task.
      has_student: whether a student is distilled first, whose tokens are dropped.
    """
    student = {"distill": sections.distill_section()} if has_student else {}
    config = common.task_config(
        task,
        TASKS[task],
        **student,
        saliency=sections.saliency_section(),
        adapler=sections.adapler_section(),
        adapt=sections.adapt_section(),
    )
    config.method = "adapler"
    return config
