"""Say in a saved student how large its teacher is: speedups are over the teacher."""

import dataclasses
from typing import Any

from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import Saved

# In `Saved.extra` of a student: layers of its teacher, and the constants of its family, if any.
TEACHER_LAYERS, TEACHER_OPTIONS = "teacher_layers", "teacher_options"


def teacher_facts(teacher: EncoderConfig) -> dict[str, Any]:
    """Return the entries of a student's `extra` that its teacher is known by; JSON values."""
    facts: dict[str, Any] = {TEACHER_LAYERS: teacher.num_layers}
    if teacher.family_options is not None:
        facts[TEACHER_OPTIONS] = teacher.family_options._asdict()
    return facts


def full_config(saved: Saved) -> EncoderConfig:
    """Return the sizes of the dense model that speedups are over: of a student, of its teacher."""
    num_layers = saved.extra.get(TEACHER_LAYERS)
    if type(num_layers) is not int or num_layers < saved.config.num_layers:
        return saved.config
    options, found = saved.config.family_options, saved.extra.get(TEACHER_OPTIONS)
    if options is not None and isinstance(found, dict) and found.keys() == options._asdict().keys():
        options = type(options)(**{name: _hashable(value) for name, value in found.items()})
    return dataclasses.replace(saved.config, num_layers=num_layers, family_options=options)


def _hashable(value: Any) -> Any:
    """Return a list of JSON as a tuple."""
    return tuple(value) if isinstance(value, list) else value
