"""Name our folders among a user's cache and data directories."""

import os
import pathlib


def user_cache(name: str) -> pathlib.Path:
    """Return the path of a folder of ours in the user's cache directory; it need not exist."""
    users = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return users.absolute() / "adapler_jax" / name


def user_data(name: str) -> pathlib.Path:
    """Return the path of a file or folder of ours in the user's data directory."""
    users = pathlib.Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return users.absolute() / "adapler_jax" / name
