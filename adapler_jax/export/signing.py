"""Sign exported programs, because they are code.

Only programs that this user exported run, and only with known custom calls. A program's file ends
in a keyed digest (HMAC-SHA256) of its content. The key is a random secret in the user's data
directory that only the user can read. The first export makes it.
"""

import hashlib
import hmac
import os
import pathlib
import re
import secrets
import stat

from adapler_jax.io.user_folders import user_data

VARIABLE = "ADAPLER_PROGRAMS"
KEY_BYTES = 32
TAG_CHARS = 2 * hashlib.sha256().digest_size
NO_TAG = b"0" * TAG_CHARS  # the place of the digest while a file is written
MAX_FILE_BYTES = 1 << 30
OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Custom calls that JAX writes for shapes that are known at run time, all of XLA itself.
CUSTOM_CALLS = {"shape_assertion", "stablehlo.dynamic_reduce_window"}
CALL = re.compile(r'hlo\.custom_call(?: @("(?:[^"\\]|\\.)*"|[\w.$-]+))?')
LOCATION = re.compile(r"^#loc.*$", re.MULTILINE)  # where in its sources an operation was written


def may_run_programs(programs: bool | None) -> bool:
    """Return whether exported programs may run: the caller's value, or of None the environment's.

    Raises:
      ValueError: ADAPLER_PROGRAMS is neither 0 nor 1.
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
      ValueError: the user has no home directory.
    """
    try:
        return user_data("programs.key")
    except RuntimeError as error:
        raise ValueError(
            f"there is no place for the key that signs programs ({error}); set XDG_DATA_HOME"
        ) from error


def make_key() -> bytes:
    """Return the user's key; make it where it does not exist.

    Raises:
      ValueError: others may read it.
      OSError: it cannot be written.
    """
    path = key_path()
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            take_place(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return read_key()


def take_place(partial: pathlib.Path, path: pathlib.Path) -> None:
    """Name a new key, unless another process was first: then that key counts."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    except OSError:  # a disk without links
        os.replace(partial, path)


def read_key() -> bytes:
    """Return the user's key.

    Raises:
      ValueError: it does not exist, or others may read it.
    """
    path = key_path()
    try:
        with path.open("rb") as file:
            found, key = os.fstat(file.fileno()), file.read(KEY_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"this user has exported no program: {path} cannot be read ({error.strerror})"
        ) from error
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & OTHERS):
        raise ValueError(f"others may read the key {path}; remove it and export again")
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key {path} is damaged; remove it and export again")
    return key


def tag_of(content: bytes, key: bytes) -> bytes:
    """Return the digest of a file's content, in hexadecimal."""
    return hmac.digest(key, content, "sha256").hex().encode()


def sign(path: pathlib.Path, key: bytes) -> None:
    """Write the digest at the end of a file that ends in NO_TAG."""
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
      ValueError: a call has no readable name.
    """
    names = {name.strip('"') for name in CALL.findall(LOCATION.sub("", module))}
    if "" in names:
        raise ValueError("it has custom calls without a readable name")
    return names


def check_custom_calls(names) -> None:
    """Check that custom calls are XLA's own; others run foreign machine code.

    Raises:
      ValueError: one is not.
    """
    if unknown := sorted(set(names) - CUSTOM_CALLS):
        raise ValueError(
            f"it calls {', '.join(unknown)[:200]}; only {', '.join(sorted(CUSTOM_CALLS))} may be "
            "called"
        )
