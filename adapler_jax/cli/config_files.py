"""Find the config files of this package by their names, as in --config=adapler:sst2."""

import difflib
import pathlib
from collections.abc import Sequence

import adapler_jax

FORMS = ("-config", "--config")  # of the flag


def config_folder() -> pathlib.Path:
    """Return the folder of config files: in a built package, or next to it in a checkout."""
    package = pathlib.Path(adapler_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def preset_names() -> list[str]:
    """Return the names of the config files, without their endings."""
    return sorted(path.stem for path in config_folder().glob("[!_]*.py"))


def resolve_config(value: str) -> str:
    """Return the value of --config with the path of a config file in place of its name.

    Args:
      value: "NAME[:ARGUMENT]" or "FILE[:ARGUMENT]". A file has a slash or the ending .py.

    Raises:
      ValueError: there is no config file of that name.
    """
    name, colon, argument = value.partition(":")
    if not name or name.endswith(".py") or "/" in name or "\\" in name:
        return value
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names())
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        presets = ", ".join(preset_names())
        raise ValueError(
            f"--config: unknown preset {name!r}; {hint}there are {presets}; or give a file"
        )
    return f"{config_folder() / name}.py{colon}{argument}"


def resolve_arguments(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with paths in place of names of config files."""
    resolved: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in FORMS and equals:
            resolved.append(f"{name}={resolve_config(value)}")
        elif resolved and resolved[-1] in FORMS:
            resolved.append(resolve_config(word))
        else:
            resolved.append(word)
    return resolved
