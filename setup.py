"""List the packages of a build; all else is in pyproject.toml.

The config files of configs/ become the package adapler_jax.configs, so that an installed `adapler`
finds them by their names.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["adapler_jax", "adapler_jax.*"]), "adapler_jax.configs"],
    package_dir={"adapler_jax.configs": "configs"},
)
