"""Convert named tensors to our parameter tree and back by the rule table."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from adapler_jax.io.messages import listed, one_line
from adapler_jax.types import Params
from adapler_jax.weights.checkpoint_formats import renamed
from adapler_jax.weights.rules import Rule, canonical_name, foreign_part

LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def compare_shapes(expected: dict, found: dict) -> list[tuple[str, str]]:
    """Return the differences between two {name: shape}, as (name, problem)."""
    problems = [
        (name, f"missing, expected {shape}")
        for name, shape in expected.items()
        if name not in found
    ]
    problems += [
        (name, f"expected {shape}, found {found[name]}")
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    reasons = {name: foreign_part(name) for name in found if name not in expected}
    return problems + [
        (name, f"unexpected, found {found[name]}" + (f": {reason}" if reason else ""))
        for name, reason in reasons.items()
    ]


def format_shapes(problems: list[tuple[str, str]]) -> str:
    """Return a line for each problem; a problem in several layers takes one line."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for full_name, text in problems:
        name = one_line(full_name)
        match = LAYER_NUMBER.search(name)
        before, layer, after = (
            (name[: match.start()], match[0], name[match.end() :]) if match else (name, "", "")
        )
        groups.setdefault((before, after, text), []).append(layer)
    lines = []
    for (before, after, text), layers in groups.items():
        several = "{" + listed(layers, limit=60, separator=",") + "}"
        lines.append(f"  {before}{layers[0] if len(layers) == 1 else several}{after}: {text}")
    return "\n".join(lines)


def raise_mismatches(subject: str, problems: list[tuple[str, str]]) -> None:
    """Raise where there are problems.

    Raises:
      ValueError: with every problem that one line has room for.
    """
    if problems:
        found = listed(
            map(str.strip, format_shapes(problems).split("\n")), limit=600, separator="; "
        )
        raise ValueError(f"{subject} ({len(problems)} mismatches): {found}")


def canonicalize(tensors: dict, source) -> dict:
    """Return the tensors under the names of the rule table.

    Raises:
      ValueError: two names mean one tensor.
    """
    return renamed(tensors, canonical_name, source)


def check_tensors(tensors: dict, rules: tuple[Rule, ...], sizes: dict[str, int], source) -> None:
    """Check tensors against the rules.

    Raises:
      ValueError: with all missing, misshapen and unexpected tensors, and those without finite
      floats.
    """
    check_layer_counts(tensors, rules, sizes, source=source)
    expected = {
        name: rule.tensor_shape(sizes) for rule in rules for name in rule.tensor_names(sizes)
    }
    problems = compare_shapes(
        expected, {name: tuple(value.shape) for name, value in tensors.items()}
    )
    problems += [
        (
            name,
            f"expected floating point numbers, found {tensors[name].dtype}: save the model "
            "without quantisation",
        )
        for name in expected
        if name in tensors and not jnp.issubdtype(tensors[name].dtype, jnp.floating)
    ]
    problems.sort(key=lambda problem: foreign_part(problem[0]) is None)
    raise_mismatches(f"the tensors of {source} do not fit its config.json", problems)


def check_layer_counts(
    tensors: dict, rules: tuple[Rule, ...], sizes: dict[str, int], *, source
) -> None:
    """Check that the tensors have as many layers as config.json, before their names are made.

    Raises:
      ValueError: config.json has more.
    """
    for letter, what in (("N", "layers"), ("M", "sites")):
        parts = {rule.name.partition("{")[0] for rule in rules if rule.stack == letter}
        found = (
            name.removeprefix(part) for name in tensors for part in parts if name.startswith(part)
        )
        numbers = {rest.partition(".")[0] for rest in found if rest[:1].isdigit()}
        if parts and sizes[letter] > len(numbers):
            raise ValueError(
                f"the tensors of {source} do not fit its config.json: it has {sizes[letter]} "
                f"{what}, there are tensors "
                f"of {len(numbers)}"
            )


def to_tree(
    tensors: dict, rules: tuple[Rule, ...], sizes: dict[str, int], *, source="the model"
) -> Params:
    """Return the float32 tree of checked tensors.

    Raises:
      ValueError: with the names of tensors with NaN or infinity.
    """
    leaves, problems = {}, []
    for rule in rules:
        names = rule.tensor_names(sizes)
        # A float64 beyond float32 becomes infinite, and is rejected.
        with np.errstate(over="ignore"):
            values = [np.asarray(tensors[name], np.float32) for name in names]
        broken = [name for name, value in zip(names, values) if not is_finite(value)]
        problems += [(name, "holds NaN or infinite numbers") for name in broken]
        values = [value.T for value in values] if rule.transposed else values
        absent = [np.ones(rule.leaf_shape(sizes)[1:], np.float32)] * rule.start
        leaves[rule.path] = np.stack(absent + values) if rule.stack else values[0]
    raise_mismatches(
        f"the tensors of {source} are damaged; copy or train the model again", problems
    )
    return jax.device_put(
        unflatten_dict(leaves)
    )  # jnp.asarray would compile a program for every shape


def is_finite(value: np.ndarray) -> bool:
    """Return whether a float array has neither NaN nor infinity, without an allocation."""
    return value.size == 0 or bool(np.isfinite(value.min()) and np.isfinite(value.max()))


def to_tensors(
    params: Params, rules: tuple[Rule, ...], sizes: dict[str, int]
) -> dict[str, np.ndarray]:
    """Return the named float32 tensors of a tree.

    Raises:
      ValueError: with all leaves that do not fit the rules.
    """
    leaves = flatten_dict(params)
    problems = compare_shapes(
        {"/".join(rule.path): rule.leaf_shape(sizes) for rule in rules},
        {"/".join(path): tuple(leaf.shape) for path, leaf in leaves.items()},
    )
    raise_mismatches("the parameters do not fit the model's config", problems)
    tensors = {}
    for rule in rules:
        leaf = np.asarray(leaves[rule.path]).astype(np.float32)
        values = leaf[rule.start :] if rule.stack else leaf[None]
        for name, value in zip(rule.tensor_names(sizes), values, strict=True):
            # safetensors writes memory in its order and would scramble a transposed view.
            tensors[name] = np.asarray(value.T if rule.transposed else value, order="C")
    return tensors
