"""The one exception of the shader compiler."""

__all__ = ["CompileError", "at"]


class CompileError(Exception):
    """A shader that does not compile.

    The first line of the message is "file:line: what is wrong"; the compiler's own text may follow.
    """


def at(file: str, line: int, message: str) -> CompileError:
    """An error at a place in a shader."""
    return CompileError(f"{file}:{line}: {message}")
