"""docs/formats.md names the formats that kernels are made for, and no other."""

import re

from support.paths import ROOT

KERNELS = (
    "embed",
    "linear",
    "linear3",
    "experts_gate_up",
    "experts_down",
    "experts_gate_up_grouped",
    "experts_down_grouped",
)


def named():
    page = (ROOT / "docs" / "formats.md").read_text()
    return {name for line in page.splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line)}


def test_formats():
    files = ("weights.h", "weights/blocks.h", "weights/blocks_shared.h", "weights/affine_shared.h")
    headers = "".join((ROOT / "shaders" / file).read_text() for file in files)
    assert set(re.findall(r"\bEACH\((\w+),", headers)) - {"name"} == named()


def test_kernels(processor):
    for name in named():
        for kernel in KERNELS:
            assert processor.kernel(f"{kernel}_{name}").name == f"{kernel}_{name}"
