"""Devices, the compiled core behind them, one's own kernels, and the findings of the checker."""

from .._lazy import lazy

_HOMES = {
    "Device": ".device",
    "checked": ".device",
    "open_device": ".device",
    "Access": ".findings",
    "Finding": ".findings",
    "KINDS": ".findings",
    "Buffer": ".buffers",
    "Dispatch": ".kernels",
    "DispatchChain": ".kernels",
    "Kernel": ".kernels",
    "Library": ".kernels",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOMES)
