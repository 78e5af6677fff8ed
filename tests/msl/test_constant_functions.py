"""constexpr functions that are constant in no call: functions, operators, members, constructors and templates of them,
on every device; those that are constant in some calls stay so."""

from pathlib import Path

import numpy as np
import pytest
from support.metallib import Library

from pipeline import metalc
from pipeline.metalc import nvrtc
from pipeline.metalc.toolchain import runnable_isas

SHADER = Path(__file__).parent / "shaders" / "constant_functions.metal"


def test_constexpr_functions_may_call_plain_ones(tmp_path):
    isa = runnable_isas()[-1]
    library = Library(metalc.build([SHADER], tmp_path / "x.metallib", [isa, "checker"], optimize="1"), isa)
    out = np.zeros(4, np.uint32)
    library.run("k", [out], groups=(4,))
    # sum, square, triple, exp, constructor with a member, reference, result void
    expected = [(i + 1) + 1 * 10 + 3 * 100 + 1 * 1000 + (2 + 1 + 2) * 10000 + 7 * 100000 for i in range(4)]
    assert out.tolist() == expected


@pytest.mark.skipif(nvrtc.find() is None, reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")
def test_nvidias_compiler_takes_them_too(tmp_path):
    metalc.build([SHADER], tmp_path / "x.metallib", ["cuda"], archs=["sm_90"])
    assert list((tmp_path / "x.metallib").glob("cuda/sm_90/*.cubin"))
