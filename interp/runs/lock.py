"""One process a run folder: an advisory lock that the system drops with its holder, however that ends."""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.runs.store import LOCK_FILE, RunFolderError


def _try_lock(handle: int) -> bool:
    """Whether the lock was taken; False when another process holds it."""
    if os.name == "nt":
        import msvcrt

        try:
            os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, which others must be able to read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


class FolderInUse(RunFolderError):
    """Another process works in the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process.

    The file stays behind after a kill, but the lock does not: a stale file is simply locked again.

    Raises:
        FolderInUse: another process holds it (named by its id and machine).
        RunFolderError: the file system refuses locks.
    """
    path = folder / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunFolderError(f"cannot lock {folder}: {error.strerror or error}") from error
    try:
        try:
            taken = _try_lock(handle)
        except OSError as error:
            raise RunFolderError(
                f"cannot lock {folder}: {error.strerror or error}; name an --out folder on a local disk"
            ) from error
        if not taken:
            raise FolderInUse(
                f"another scan{_holder(handle)} is working in {folder}; wait for it or name another --out"
            )
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())
        yield
    finally:
        os.close(
            handle
        )  # releases the lock; the file stays, for removing it could pull it from under a waiting process


def _holder(handle: int) -> str:
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        holder = json.loads(os.read(handle, 4096))
        return f" (process {int(holder['pid'])} on {str(holder['host'])[:80]!r})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
