"""Build the config of AdapLeR for a task, before its variants."""

import ml_collections

from adapler_jax.presets import common, sections
from adapler_jax.presets.tasks import TASKS


def adapler_config(task: str) -> ml_collections.ConfigDict:
    """Return the config of AdapLeR on one of `tasks.TASKS`."""
    config = common.task_config(
        task,
        TASKS[task],
        saliency=sections.saliency_section(),
        adapler=sections.adapler_section(),
        adapt=sections.adapt_section(),
    )
    config.method = "adapler"
    return config
