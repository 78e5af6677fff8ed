"""Panics of the `tokenizers` package, which is written in Rust, as errors of this package.

A panic comes as an exception that `except Exception` does not catch. Before that, Rust prints it to file descriptor 2,
with what the tokenizer's file put into the message.
"""

from __future__ import annotations

import contextlib
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
        kept = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        os.dup2(kept.fileno(), 2)
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
            kept.seek(0)
            text = b"" if panicked else kept.read()
            if text:
                with contextlib.suppress(OSError):
                    os.write(2, text)
