"""Named tensors <-> our parameter tree by the rule table, with all mismatches in one error."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from adapler_jax.types import Params
from adapler_jax.weights.names import Rule, canonical_name

LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def compare_shapes(expected: dict, found: dict) -> list[tuple[str, str]]:
    """Differences between two {name: shape}, as (name, what is wrong)."""
    problems = [(name, f"missing, expected {shape}") for name, shape in expected.items() if name not in found]
    problems += [
        (name, f"expected {shape}, found {found[name]}")
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    return problems + [(name, f"unexpected, found {shape}") for name, shape in found.items() if name not in expected]


def describe(problems: list[tuple[str, str]]) -> str:
    """One line a problem; the same problem in several layers takes one line that lists the layers."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, text in problems:
        match = LAYER_NUMBER.search(name)
        before, layer, after = (name[: match.start()], match[0], name[match.end() :]) if match else (name, "", "")
        groups.setdefault((before, after, text), []).append(layer)
    return "\n".join(
        f"  {before}{layers[0] if len(layers) == 1 else '{' + ','.join(layers) + '}'}{after}: {text}"
        for (before, after, text), layers in groups.items()
    )


def raise_mismatches(subject: str, problems: list[tuple[str, str]]) -> None:
    """ValueError with every problem, where there is one."""
    if problems:
        raise ValueError(f"{subject} ({len(problems)} mismatches):\n{describe(problems)}")


def canonicalize(tensors: dict, source) -> dict:
    """The tensors under the names of the rule table. Raises ValueError where two names mean the same tensor."""
    renamed: dict = {}
    origins: dict = {}
    for name, value in tensors.items():
        canonical = canonical_name(name)
        if canonical in renamed:
            raise ValueError(f"{source} holds {canonical} twice: as {origins[canonical]} and as {name}")
        renamed[canonical], origins[canonical] = value, name
    return renamed


def check_tensors(tensors: dict, rules: tuple[Rule, ...], sizes: dict[str, int], source) -> None:
    """Raises ValueError with all missing, misshapen and unexpected tensors, and those that hold no floats."""
    expected = {name: rule.tensor_shape(sizes) for rule in rules for name in rule.tensor_names(sizes)}
    problems = compare_shapes(expected, {name: tuple(value.shape) for name, value in tensors.items()})
    problems += [
        (name, f"expected floating point numbers, found {tensors[name].dtype}")
        for name in expected
        if name in tensors and not jnp.issubdtype(tensors[name].dtype, jnp.floating)
    ]
    raise_mismatches(f"the tensors of {source} do not fit its config.json", problems)


def to_tree(tensors: dict, rules: tuple[Rule, ...], sizes: dict[str, int]) -> Params:
    """The float32 tree of checked tensors."""
    leaves = {}
    for rule in rules:
        values = [np.asarray(tensors[name], np.float32) for name in rule.tensor_names(sizes)]
        values = [value.T for value in values] if rule.transposed else values
        leaves[rule.path] = np.stack(values) if rule.stack else values[0]
    return jax.device_put(unflatten_dict(leaves))  # jnp.asarray would compile a program for every shape


def to_tensors(params: Params, rules: tuple[Rule, ...], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """The named float32 tensors of a tree. Raises ValueError with all leaves that do not fit the rules."""
    leaves = flatten_dict(params)
    problems = compare_shapes(
        {"/".join(rule.path): rule.leaf_shape(sizes) for rule in rules},
        {"/".join(path): tuple(leaf.shape) for path, leaf in leaves.items()},
    )
    raise_mismatches("the parameters do not fit the model's config", problems)
    tensors = {}
    for rule in rules:
        leaf = np.asarray(leaves[rule.path]).astype(np.float32)
        values = leaf if rule.stack else leaf[None]
        for name, value in zip(rule.tensor_names(sizes), values, strict=True):
            # safetensors writes the memory as it lies: a transposed view would come back scrambled.
            tensors[name] = np.ascontiguousarray(value.T if rule.transposed else value)
    return tensors
