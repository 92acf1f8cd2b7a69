"""Say in a saved student how large its teacher is: speedups are over the teacher."""

import dataclasses

from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import Saved

TEACHER_LAYERS = "teacher_layers"  # in `Saved.extra` of a student: layers of its teacher


def full_config(saved: Saved) -> EncoderConfig:
    """Return the sizes of the dense model that speedups are over: of a student, of its teacher."""
    num_layers = saved.extra.get(TEACHER_LAYERS)
    if type(num_layers) is not int or num_layers < saved.config.num_layers:
        return saved.config
    return dataclasses.replace(saved.config, num_layers=num_layers)
