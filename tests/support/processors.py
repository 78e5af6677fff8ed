"""The devices of this machine that tests run on, as (name, threads)."""

import functools
import sys

SHADERS_ALONE = ("cpu", 1)  # One thread runs the shaders as they are written, without native kernels.
# Two threads run native kernels where a step has them; on a Mac there are none.
PROCESSORS = [("metal", 0), ("cpu", 2)] if sys.platform == "darwin" else [SHADERS_ALONE, ("cpu", 2)]
# With threadgroups of three simdgroups, which is no power of two.
CHECKERS = [("checker", 96)]


@functools.cache
def has_gpu() -> bool:
    """Whether a GPU of NVIDIA is there and can be used."""
    import pipeline
    from pipeline.errors import DeviceError

    try:
        pipeline.open_device("cuda")
    except DeviceError:
        return False
    return True


if sys.platform != "darwin" and has_gpu():
    PROCESSORS.append(("cuda", 0))
