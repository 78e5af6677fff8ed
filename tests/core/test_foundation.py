"""The part of Foundation that stands where Apple's is absent, under the sanitizers too."""

import subprocess
import sys

import pytest
from support import metal_harness as harness

if sys.platform == "darwin":
    pytest.skip("macOS has its own Foundation", allow_module_level=True)


@pytest.mark.parametrize("variant", ["address", "thread"])
def test_it_does_what_apples_does(variant, tmp_path):
    variant, source = harness.VARIANTS[variant], harness.ROOT / "tests/core/foundation.m"
    program = harness.linked("foundation", variant, [source], lambda path: path.parent.name == "foundation")
    done = subprocess.run([program, tmp_path], capture_output=True, text=True, env=variant.environment)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len(lines) > 70 and (done.returncode, done.stderr) == (0, "")
