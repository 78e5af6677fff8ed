"""The devices of this machine that tests run on, as (name, threads)."""

import sys

# The CPU alone, with the shaders as they are written, and with two workers, with the kernels that were written by hand.
PROCESSORS = [("metal", 0)] if sys.platform == "darwin" else [("cpu", 1), ("cpu", 2)]
# With threadgroups of three simdgroups, which is no power of two.
CHECKERS = [] if sys.platform == "darwin" else [("checker", 96)]
