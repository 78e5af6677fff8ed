"""Who may write to the file of rows: one run at a time, and over no rows that nobody gave up.

It loads nothing heavy, so that a mistake on the command line is reported at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from ..errors import UsageError

__all__ = ["check_no_rows", "check_unused", "is_file", "lock", "refuse_rows"]


def check_unused(path: Path, option: str = "--out") -> None:
    """Raises UsageError, for that option, where another run writes rows to `path` now."""
    if not path.is_file():  # not there yet; or a pipe, whose reader would take this for its end
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError:
        return  # opening it for rows will tell
    try:
        lock(descriptor, path, option)
    finally:
        os.close(descriptor)


def check_no_rows(path: Path) -> None:
    """Raises UsageError where the file has something, which a run would empty."""
    if path.is_file():
        refuse_rows(path, path.stat().st_size)


def refuse_rows(path: Path, size: int) -> None:
    """Raises UsageError for a file of rows of some size."""
    if size:
        raise UsageError(
            f"--out {path}: has {size:,} bytes, perhaps rows of an earlier run; give --resume to go on with them, "
            "--overwrite to lose them, or another file"
        )


def lock(descriptor: int, path: Path, option: str = "--out") -> None:
    """Takes the file for this process; the lock ends with the process, however that ends."""
    if not is_file(descriptor):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(
                f"{option} {path}: another run writes its rows there; wait until it ends, or give another file"
            ) from None
        # Some network file systems have no locks. Nobody can be refused there.


def is_file(descriptor: int) -> bool:
    """Whether it is an ordinary file."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
