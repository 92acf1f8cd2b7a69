"""Find the size of every axis that the tensor rules of a model name.

The encoder's config, the head and the digits fix most letters of `rules.axis_sizes`. M is the
number of the pruner's sites. P is read from the model's own leaves, since saved models do not
record it. Any other letter has its size in the shapes that `init` of encoder and pruner returns.
"""

from collections.abc import Callable, Mapping

import jax
from flax.traverse_util import flatten_dict

from adapler_jax.encoders import encoder_of
from adapler_jax.pruning import Pruner, keep_all
from adapler_jax.types import EncoderConfig, Params, Rule
from adapler_jax.weights.rules import axis_sizes

Shape = tuple[int, ...]
# The shapes of leaves without their stacked axes, by path.
Shapes = Mapping[tuple[str, ...], Shape]


def model_sizes(
    config: EncoderConfig,
    rules: tuple[Rule, ...],
    shapes: Shapes,
    *,
    num_classes: int,
    get_pruner: Callable[[], Pruner] = keep_all,
) -> dict[str, int]:
    """Return the size of every axis letter of a model.

    Args:
      config: of the encoder.
      rules: of the model.
      shapes: of the model's leaves that are there.
      num_classes: of the head.
      get_pruner: returns the pruner with the model's options; called where its sizes are needed.

    Raises:
      ValueError: the rules do not fit the leaves of `init`.
    """
    sizes = axis_sizes(config, num_classes=num_classes)
    defaults = {letter: sizes.pop(letter) for letter in "MP"}
    if predictor_dim := predictor_dim_of(rules, shapes):
        sizes["P"] = predictor_dim
    needed = {letter for rule in rules for letter in rule.stack + rule.axes}
    if needed <= sizes.keys():
        return defaults | sizes
    pruner = get_pruner()
    sizes["M"] = len(pruner.sites)
    return defaults | sizes | init_sizes(config, pruner, rules, needed - sizes.keys())


def init_sizes(
    config: EncoderConfig, pruner: Pruner, rules: tuple[Rule, ...], letters: set[str]
) -> dict[str, int]:
    """Return the sizes of some letters in the fresh leaves of encoder and pruner.

    Raises:
      ValueError: a letter has no size, or several.
    """
    shapes = init_shapes(config, pruner, rules) if letters else {}
    found: dict[str, set[int]] = {letter: set() for letter in letters}
    for rule in rules:
        shape = shapes.get(rule.path, ())
        for letter, size in zip(rule.axes, shape if len(shape) == len(rule.axes) else ()):
            if letter in found:
                found[letter].add(size)
    for letter, of_letter in sorted(found.items()):
        if len(of_letter) != 1:
            listed_sizes = " and ".join(map(str, sorted(of_letter))) or "no size"
            raise ValueError(
                f"the tensor rules of encoder {config.family} and pruner {pruner.name} give the "
                f"axis {letter} {listed_sizes}; expected one size in the leaves of `init`"
            )
    return {letter: of_letter.pop() for letter, of_letter in found.items()}


def init_shapes(config: EncoderConfig, pruner: Pruner, rules: tuple[Rule, ...]) -> Shapes:
    """Return the shapes of the fresh leaves of encoder and pruner; nothing is computed."""

    def init() -> Params:
        """Return fresh parameters."""
        key = jax.random.key(0)
        return {"encoder": encoder_of(config).init(key, config), "pruner": pruner.init(key, config)}

    return shapes_of_leaves(jax.eval_shape(init), rules)


def shapes_of_leaves(params: Params, rules: tuple[Rule, ...]) -> Shapes:
    """Return the shapes of the leaves that rules name."""
    leaves = flatten_dict(params)
    return {
        rule.path: tuple(leaves[rule.path].shape[len(rule.stack) :])
        for rule in rules
        if rule.path in leaves
    }


def shapes_of_tensors(tensors: dict, rules: tuple[Rule, ...]) -> Shapes:
    """Return the shapes of the leaves whose first tensor is there."""
    found = {}
    for rule in rules:
        name = rule.name.format(layer=0, site=0) if rule.stack else rule.name
        if name in tensors:
            shape = tuple(tensors[name].shape)
            found[rule.path] = shape[::-1] if rule.transposed else shape
    return found


def predictor_dim_of(rules: tuple[Rule, ...], shapes: Shapes) -> int | None:
    """Return the size of the axis P, of the leaf with the fewest axes; None where it is absent."""
    for rule in sorted(rules, key=lambda rule: len(rule.axes)):
        shape = shapes.get(rule.path, ())
        if "P" in rule.axes and len(shape) == len(rule.axes):
            return shape[rule.axes.index("P")]
    return None
