"""The exceptions of the shader compiler."""

__all__ = ["CompileError", "RefusedArgument", "at"]


class CompileError(Exception):
    """A shader that does not compile.

    The first line of the message is "file:line: what is wrong"; the compiler's own text may follow.
    """


class RefusedArgument(CompileError):
    """A kernel that takes what no device here can give it, such as a texture. The rest of its file may run."""


def at(file: str, line: int, message: str) -> CompileError:
    """An error at a place in a shader."""
    return CompileError(f"{file}:{line}: {message}")
