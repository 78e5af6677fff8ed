"""The compiled core for the rest of the package, or one line that says why it does not load."""

import re

from .errors import DeviceError
from .resources import remedy

__all__ = ["_core"]


def _explain(error: ImportError) -> DeviceError:
    if error.name == f"{__package__}._core" or "cannot import name" in str(error):
        return DeviceError(f"{__package__}._core is not built: {remedy()}")
    absent = re.match(r"(lib[\w+-]+)\.so\.([\d.]+): cannot open shared object file", str(error))
    if absent:
        package = "".join(absent.groups())  # Debian names a library's package after its version
        return DeviceError(
            f"{absent[0].split(':')[0]} is missing: apt-get install {package}, "
            "or build onebuf from source, with the version that is there"
        )
    return DeviceError(f"{__package__}._core does not load ({error}): {remedy()}")


try:
    from . import _core
except ImportError as _error:
    raise _explain(_error) from _error
