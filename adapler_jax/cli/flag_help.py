"""Describe the flags of a subcommand for its --help."""

import re
import textwrap

from absl import flags

COLUMNS = 100


def describe_flags(values: flags.FlagValues) -> str:
    """Return a paragraph for every flag: its form, its help and its default."""
    found = [flag for group in values.flags_by_module_dict().values() for flag in group]
    return "\n".join(map(_describe_flag, found))


def _describe_flag(flag: flags.Flag) -> str:
    """Return one flag as `--name=`, and its help indented below."""
    form = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}="
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        form += "|".join(map(str, choices))
    text = re.sub(r"^<[^>]*>: ", "", flag.help or "")  # without absl's list of choices
    if flag.default not in (None, "", [], False):
        default = (flag.default_as_str or "").strip("'")
        text += f" (default: {default})"
    indent = " " * 6
    return (
        f"{form}\n{textwrap.fill(text, COLUMNS, initial_indent=indent, subsequent_indent=indent)}"
    )
