"""The compiled core for the rest of the package, or one line that says why it does not load."""

import re
from typing import TYPE_CHECKING, NoReturn

from ..errors import DeviceError
from .resources import remedy

__all__ = ["_core"]


def _explain(error: ImportError) -> DeviceError:
    if error.name == "pipeline._core" or "cannot import name" in str(error):
        return DeviceError(f"pipeline._core is not built: {remedy()}")
    absent = re.match(r"(lib[\w+-]+)\.so\.([\d.]+): cannot open shared object file", str(error))
    if absent:
        package = "".join(absent.groups())  # Debian names a library's package after its version
        return DeviceError(
            f"{absent[0].split(':')[0]} is missing: apt-get install {package}, "
            "or build onebuf from source, with the version that is there"
        )
    return DeviceError(f"pipeline._core does not load ({error}): {remedy()}")


class _Absent:
    """Stands for a core that does not load: whoever needs it gets the line that says why."""

    def __init__(self, error: ImportError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> NoReturn:
        raise _explain(self._error) from self._error


if TYPE_CHECKING:
    from .. import _core
else:
    try:
        from .. import _core
    except ImportError as _error:
        _core = _Absent(_error)
