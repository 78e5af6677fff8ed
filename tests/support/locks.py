"""What several test processes make once for all of them."""

import contextlib
import fcntl
from pathlib import Path


@contextlib.contextmanager
def alone_in(folder: Path):
    """Makes the folder, and keeps other processes out of it for the while."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
