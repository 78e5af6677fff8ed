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
    folder = harness.ROOT / "build" / "tests" / "foundation" / variant.name
    with alone_in(folder):
        tools = harness.toolchain.find()
        shop = harness.objects.Workshop(harness.ROOT, folder, tools.identity)
        flags = [*tools.objc_flags, *variant.flags, "-Werror"]
        sources = [harness.ROOT / "tests/core/foundation.m", *sorted((harness.ROOT / "objc/foundation").glob("*.m"))]
        made = [folder / f"{source.stem}.o" for source in sources]
        harness.objects.parallel(
            functools.partial(harness._compile, shop, tools, source, out, flags) for source, out in zip(sources, made)
        )
        link = [*tools.compiler, *variant.flags, "-pthread", *map(str, made), "-o", str(folder / "foundation")]
        shop.make(folder / "foundation", [*link, *tools.libraries], made)
    return folder / "foundation"


@pytest.mark.parametrize("variant", ["address", "thread"])
def test_it_does_what_apples_does(variant, tmp_path):
    variant = harness.VARIANTS[variant]
    done = subprocess.run([program(variant), tmp_path], capture_output=True, text=True, env=variant.environment)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len(lines) > 70 and (done.returncode, done.stderr) == (0, "")
