"""The sizes that shaders and host share, from shaders/args.h by way of the core."""


def core():
    """The compiled core, loaded when a step first asks: importing the package stays cheap."""
    from ..native import _core

    return _core
