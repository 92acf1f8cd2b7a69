"""Sign exported programs, which are code: only programs of this user run.

A keyed digest (HMAC-SHA256) of all bytes before it ends a program's file. The key is a random
secret in the user's data directory that only the user can read; the first export makes it. Only
known custom calls may run.
"""

import hashlib
import hmac
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Iterable

from adapler_jax.io.user_folders import user_data

VARIABLE = "ADAPLER_PROGRAMS"
KEY_BYTES = 32
TAG_CHARS = 2 * hashlib.sha256().digest_size
NO_TAG = b"0" * TAG_CHARS  # in place of the digest while a file is written
MAX_FILE_BYTES = 1 << 30
OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Custom calls that JAX writes for shapes that are known at run time. XLA itself implements them.
CUSTOM_CALLS = {"shape_assertion", "stablehlo.dynamic_reduce_window"}
CALL = re.compile(r'hlo\.custom_call(?: @("(?:[^"\\]|\\.)*"|[\w.$-]+))?')
LOCATION = re.compile(r"^#loc.*$", re.MULTILINE)  # source line of an operation


def may_run_programs(programs: bool | None) -> bool:
    """Return True if exported programs may run.

    Args:
      programs: the caller's choice; None for the environment variable ADAPLER_PROGRAMS.

    Raises:
      ValueError: the variable is neither 0 nor 1.
    """
    if programs is not None:
        return bool(programs)
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ValueError(
            f"{VARIABLE} is {value!r:.60}; expected 1, or 0 to run no exported programs"
        )
    return value == "1"


def key_path() -> pathlib.Path:
    """Return the path of the user's key.

    Raises:
      ValueError: the user has no home.
    """
    try:
        return user_data("programs.key")
    except RuntimeError as error:
        raise ValueError(
            f"there is no place for the key that signs programs ({error}); set XDG_DATA_HOME"
        ) from error


def make_key() -> bytes:
    """Return the user's key; the first call makes it.

    Raises:
      ValueError: others can read it.
      OSError: it cannot be written.
    """
    path = key_path()
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            publish_key(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return read_key()


def publish_key(partial: pathlib.Path, path: pathlib.Path) -> None:
    """Give a new key its name; the key of another process that was first counts."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    except OSError:  # a disk without links
        os.replace(partial, path)


def read_key() -> bytes:
    """Return the user's key.

    Raises:
      ValueError: there is none, or others can read it.
    """
    path = key_path()
    try:
        with path.open("rb") as file:
            status, key = os.fstat(file.fileno()), file.read(KEY_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"this user has exported no program: {path} cannot be read ({error.strerror})"
        ) from error
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & OTHERS):
        raise ValueError(f"others may read the key {path}; remove it and export again")
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key {path} is damaged; remove it and export again")
    return key


def tag_of(content: bytes, key: bytes) -> bytes:
    """Return the digest of a file's content, in hexadecimal."""
    return hmac.digest(key, content, "sha256").hex().encode()


def sign(path: pathlib.Path, key: bytes) -> None:
    """Replace NO_TAG at the end of a file by the digest."""
    content = path.read_bytes().removesuffix(NO_TAG)
    path.write_bytes(content + tag_of(content, key))


def read_signed(path: pathlib.Path) -> bytes:
    """Return the content of a signed file.

    Raises:
      ValueError: this user did not sign exactly this content.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES >> 20} MiB")
    key, content = read_key(), path.read_bytes()
    if not hmac.compare_digest(tag_of(content[:-TAG_CHARS], key), content[-TAG_CHARS:]):
        raise ValueError("it was not exported by this user, or is damaged")
    return content


def custom_calls(module: str) -> set[str]:
    """Return the names of the custom calls in the text of a StableHLO module.

    Raises:
      ValueError: a custom call has no readable name.
    """
    names = {name.strip('"') for name in CALL.findall(LOCATION.sub("", module))}
    if "" in names:
        raise ValueError("it has custom calls without a readable name")
    return names


def check_custom_calls(names: Iterable[str]) -> None:
    """Check that all custom calls are XLA's own; others run foreign machine code.

    Raises:
      ValueError: a custom call is not.
    """
    if unknown := sorted(set(names) - CUSTOM_CALLS):
        allowed = ", ".join(sorted(CUSTOM_CALLS))
        raise ValueError(f"it calls {', '.join(unknown)[:200]}; only {allowed} may be called")
