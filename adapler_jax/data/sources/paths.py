"""Names of files that data gives: they must stay inside of the folder that they are looked for
in.
"""

import pathlib

from adapler_jax.io.messages import shown


def check_inside(root: pathlib.Path, name: str | pathlib.PurePath, where: str) -> pathlib.Path:
    """Return the path of a name inside of a folder, links followed.

    A link of the hub's cache leads from its snapshot to the blobs of the same repository.

    Args:
      root: the folder; it may be a link itself.
      name: as the data gives it, relative to the folder.
      where: names the place of the name in messages.

    Raises:
      ValueError: the name is no relative path, or it or a link leads out of the folder.
    """
    if not isinstance(name, str | pathlib.PurePath) or not str(name) or "\0" in str(name):
        raise ValueError(
            f"{where} names the file {shown(name, 80)}; expected the name of a file in "
            f"{str(root)!r}"
        )
    try:
        path, inside = (root / name).resolve(), root.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise ValueError(
            f"{where} names the file {shown(str(name), 80)}, which cannot be followed: {error}"
        ) from error
    if path == inside or not (path.is_relative_to(inside) or _is_blob(path, inside)):
        raise ValueError(
            f"{where} names the file {shown(str(name), 80)}, which is outside of {str(root)!r}; "
            f"files of data "
            "stay in their folder: copy it there"
        )
    return root / name


def _is_blob(path: pathlib.Path, inside: pathlib.Path) -> bool:
    """Say whether a file is a blob of the hub's repository whose snapshot holds a folder."""
    blobs, snapshots = path.parent, path.parent.parent / "snapshots"
    return blobs.name == "blobs" and snapshots in inside.parents
