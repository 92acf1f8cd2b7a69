"""Explain in one line what is wrong with a command line or a config file."""

import re

EMPTY_GROUP = "--config.data.split_fractions=\"{'validation': 0.1}\""
# Fields that are tables, each with an example.
TABLES = {
    "data.columns": "{'text': 'review', 'label': 'stars'}",
    "data.sources": "{'test': 'file:test.csv'}",
    "data.split_fractions": "{'validation': 0.1}",
}
EXPECTED = {"int()": "a whole number", "to float": "a number", "boolean": "true or false"}
FIELD_ERROR = re.compile(r"flag --config\.([\w.]+)=(.*?): (.*)", re.DOTALL)
CONFIG_FILES = (
    "give a preset or a file, as --config=adapler:sst2 or --config=configs/adapler.py:sst2"
)


def explain_flag_error(text: str) -> str:
    """Return one line for a message of absl or ml_collections on a wrong flag."""
    if text[:1] in "\"'":
        text = text[1:-1]  # a KeyError's text is quoted
    return _explain_known(text) or _explain_last_line(text)


def _explain_known(text: str) -> str | None:
    """Return one line for a message of a known form; None for other messages."""
    if missing := re.match(r"flag --(\w+)=None:", text):
        return f"there is no --{missing[1]}; give --{missing[1]}=..."
    if field := FIELD_ERROR.match(text):
        return _explain_field(*field.groups())
    if early := re.search(r"Found (--[\w.]+).* before a value for --config", text):
        return f"{early[1]} is given before --config; give --config=FILE first"
    if alone := re.match(r"Unknown command line flag '(config\.[\w.]+)'", text):
        return f"--{alone[1]} needs --config=FILE before it; {CONFIG_FILES}"
    if text.strip("'").isidentifier():
        return (
            f"there is no config field {text}; give a section that starts empty as a whole, "
            f"as in {EMPTY_GROUP}"
        )
    wrong = re.match(r"flag --(\w+)=(.*?): (.*)", text, re.DOTALL)
    return _explain_value(*wrong.groups()) if wrong else None


def _expected_type(reason: str) -> str | None:
    """Return the type that a value should have; None where the reason is another one."""
    return next((expected for part, expected in EXPECTED.items() if part in reason), None)


def _explain_value(name: str, value: str, reason: str) -> str | None:
    """Return one line on a flag whose value has another type or range; None for other reasons."""
    if expected := _expected_type(reason):
        return f"--{name} is {value!r}; expected {expected}"
    if bound := re.search(r"is not number >= (\S+)", reason):
        return f"--{name} is {value}; expected at least {bound[1]}"
    for part, least in {"a positive integer": 1, "a non-negative integer": 0}.items():
        if part in reason:
            return f"--{name} is {value}; expected at least {least}"
    return None


def _explain_last_line(text: str) -> str:
    """Return the last line of a message, with the suggestion that it holds."""
    line = [line.strip() for line in text.splitlines() if line.strip()][-1]
    line = line.replace("\\n", " ").replace("\\'", "'").removeprefix("ValueError: ")
    if field := re.match(r"('\w+') Did you mean (\"\w+\") instead", line):
        return f"unknown config field {field[1]}; did you mean {field[2]}?"
    return line


def _explain_field(field: str, value: str, reason: str) -> str:
    """Return one line on the value of a field that has another type than the field."""
    if "as a ConfigDict" in reason:
        return _explain_section(field, value)
    if expected := _expected_type(reason):
        return f"config.{field} is {value!r}; expected {expected}"
    return f"config.{field} is {value!r}: {reason}"


def _explain_section(field: str, value: str) -> str:
    """Return one line on a value that is given to a section or a table of the config."""
    if field not in TABLES and not value.startswith("{"):
        return (
            f"config.{field} is a section; give its fields one by one, "
            f"as --config.{field}.NAME=VALUE"
        )
    example = TABLES.get(field, "{'name': 'value'}")
    return (
        f"config.{field} is {value!r}, which is no table of names and values; the shell takes "
        "quotes away, so put the table between double quotes, "
        f'as in --config.{field}="{example}"'
    )


def explain_config_file(error: Exception) -> str:
    """Return one line on a config file that cannot be read or run."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"--config: {error.filename}, line {error.lineno}: {error.msg}"
    if isinstance(error, ImportError):
        return f"--config: {error.msg}"
    if "get_config" in text:
        return f"--config: the file has no function get_config; {CONFIG_FILES}"
    if missing := re.search(r"No such file or directory: (.*)", text):
        return f"--config: there is no file {missing[1]}; {CONFIG_FILES}"
    return f"--config: {text.partition('failure to load: ')[2] or text}; {CONFIG_FILES}"
