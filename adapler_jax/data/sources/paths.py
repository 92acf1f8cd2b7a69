"""Check file names that come from data: they must stay inside their folder."""

import pathlib

from adapler_jax.io.messages import shown

_NAME_SIZE = 80  # characters of a name in a message


def check_inside(root: pathlib.Path, name: str | pathlib.PurePath, where: str) -> pathlib.Path:
    """Return the path of a name inside a folder.

    A link of the hub's cache may lead from a snapshot to the blobs of the same repository.

    Args:
      root: the folder; it may be a link itself.
      name: relative to the folder, as the data give it.
      where: names the source of the name in messages.

    Raises:
      ValueError: the name is not a relative path, or it leads out of the folder, also by a link.
    """
    if not isinstance(name, str | pathlib.PurePath) or not str(name) or "\0" in str(name):
        raise ValueError(
            f"{where} names the file {shown(name, _NAME_SIZE)}; expected the name of a file in "
            f"{str(root)!r}"
        )
    file = f"{where} names the file {shown(str(name), _NAME_SIZE)}"
    try:
        path, inside = (root / name).resolve(), root.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise ValueError(f"{file}, which cannot be followed: {error}") from error
    if path == inside or not (path.is_relative_to(inside) or _is_blob(path, inside)):
        raise ValueError(
            f"{file}, which is outside of {str(root)!r}; files of data stay in their folder: copy "
            "it there"
        )
    return root / name


def _is_blob(path: pathlib.Path, inside: pathlib.Path) -> bool:
    """Return whether a file is a blob of the hub repository that a snapshot folder belongs to."""
    blobs, snapshots = path.parent, path.parent.parent / "snapshots"
    return blobs.name == "blobs" and snapshots in inside.parents
