"""The part of Foundation that stands where Apple's is absent, under the sanitizers too."""

import functools
import subprocess
import sys

import pytest
from support import metal_harness as harness
from support.locks import alone_in

if sys.platform == "darwin":
    pytest.skip("macOS has its own Foundation", allow_module_level=True)


@functools.cache
def program(variant):
    """The test program, linked with the objects that the tests of tests/metal build."""
    stand_in = harness.build(variant)
    folder = harness.ROOT / "build" / "tests" / "foundation" / variant.name
    with alone_in(folder):
        tools = harness.toolchain.find()
        shop = harness.objects.Workshop(harness.ROOT, folder, tools.identity)
        source, made = harness.ROOT / "tests/core/foundation.m", folder / "foundation.o"
        harness._compile(shop, tools, source, made, [*tools.objc_flags, *variant.flags, "-Werror"])
        own = [path for path in harness.stand_in() if path.parent.name == "foundation"]
        inputs = [made, *(stand_in / f"{path.stem}.o" for path in own)]
        link = [*tools.compiler, *variant.flags, "-pthread", *map(str, inputs), "-o", str(folder / "foundation")]
        shop.make(folder / "foundation", [*link, *tools.libraries], inputs)
    return folder / "foundation"


@pytest.mark.parametrize("variant", ["address", "thread"])
def test_it_does_what_apples_does(variant, tmp_path):
    variant = harness.VARIANTS[variant]
    done = subprocess.run([program(variant), tmp_path], capture_output=True, text=True, env=variant.environment)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len(lines) > 70 and (done.returncode, done.stderr) == (0, "")
