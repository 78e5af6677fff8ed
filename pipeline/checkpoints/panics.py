"""Panics of the `tokenizers` package, which is written in Rust, as errors of this package.

A panic comes as an exception that `except Exception` does not catch. Before that, Rust prints it to file descriptor 2,
with what the tokenizer's file put into the message.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

from ..printing import one_line

__all__ = ["panics_become"]

_MODULE = "pyo3_runtime"  # of the class PanicException, which cannot be imported
_redirecting = threading.RLock()


@contextlib.contextmanager
def panics_become(error: Callable[[str], Exception], *, silent: bool = False) -> Iterator[None]:
    """Raises error(message) where the block panics; other exceptions pass.

    silent: Rust's own words do not reach standard error. What others write there meanwhile comes a moment later.
    """
    try:
        with _held_back() if silent else contextlib.nullcontext():
            yield
    except BaseException as panic:
        if type(panic).__module__ != _MODULE:
            raise
        raise error(one_line(str(panic))) from None


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Keeps what is written to file descriptor 2, and writes it there at the end where the block did not panic."""
    with _redirecting, contextlib.ExitStack() as stack:
        try:
            stderr = os.dup(2)
        except OSError:  # closed: nothing can be written there
            yield
            return
        stack.callback(os.close, stderr)
        kept = _file_of(os.getpid())
        os.dup2(kept, 2)
        panicked = False
        try:
            yield
        except BaseException as problem:
            panicked = type(problem).__module__ == _MODULE
            raise
        finally:
            if sys.stderr is not None:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.flush()
            os.dup2(stderr, 2)
            size = os.lseek(kept, 0, os.SEEK_CUR)
            if size:
                text = os.pread(kept, size, 0)
                os.lseek(kept, 0, os.SEEK_SET)
                os.ftruncate(kept, 0)
                if not panicked:
                    with contextlib.suppress(OSError):
                        os.write(2, text)


@functools.lru_cache(maxsize=1)
def _file_of(process: int) -> int:
    """An empty file without a name. One serves all calls of a process, since making one costs more than most of them; a
    process that is forked has its own, because both would write at one place."""
    file, name = tempfile.mkstemp()
    os.unlink(name)
    return file
