"""The devices of this machine that tests run on, as (name, threads)."""

import sys

SHADERS_ALONE = ("cpu", 1)  # One thread runs the shaders as they are written, without native kernels.
# Two threads run native kernels where a step has them.
PROCESSORS = [("metal", 0)] if sys.platform == "darwin" else [SHADERS_ALONE, ("cpu", 2)]
# With threadgroups of three simdgroups, which is no power of two.
CHECKERS = [] if sys.platform == "darwin" else [("checker", 96)]
