"""The C face of the core: every failure fills the error in, under the address sanitizer too."""

import subprocess
import sys

import pytest
from support import metal_harness as harness

if sys.platform == "darwin":
    pytest.skip("the core is linked with the stand-in for Apple's Metal", allow_module_level=True)


def program(variant):
    """The test program, linked with the core and with the stand-in that the tests of tests/metal build."""
    core = sorted(path for suffix in ("m", "c") for path in (harness.ROOT / "objc" / "core").glob(f"*.{suffix}"))
    sources = [harness.ROOT / "tests" / "core" / "face.c", *core]
    return harness.linked("face", variant, sources, lambda path: True), harness.build(variant) / "library.metallib"


@pytest.mark.parametrize("device", ["cpu", "checker"])
@pytest.mark.parametrize("variant", ["plain", "address"])
def test_every_failure_fills_the_error_in(variant, device):
    variant = harness.VARIANTS[variant]
    path, library = program(variant)
    done = subprocess.run([path, library, device], capture_output=True, text=True, env=variant.environment)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len(lines) > 15 and (done.returncode, done.stderr) == (0, "")
