"""The C face of the core: every failure fills the error in, under the address sanitizer too."""

import functools
import subprocess
import sys

import pytest
from support import metal_harness as harness
from support.locks import alone_in

if sys.platform == "darwin":
    pytest.skip("the core is linked with the stand-in for Apple's Metal", allow_module_level=True)


@functools.cache
def program(variant):
    """The test program, linked with the core and with the stand-in that the tests of tests/metal build."""
    stand_in = harness.build(variant)
    folder = harness.ROOT / "build" / "tests" / "face" / variant.name
    with alone_in(folder):
        tools = harness.toolchain.find()
        shop = harness.objects.Workshop(harness.ROOT, folder, tools.identity)
        own = [*variant.flags, "-Werror", "-Iobjc", "-Ishaders"]
        flags = {".m": [*tools.objc_flags, *own], ".c": [*tools.c_flags, *own]}
        core = sorted(path for suffix in ("m", "c") for path in (harness.ROOT / "objc" / "core").glob(f"*.{suffix}"))
        sources = [harness.ROOT / "tests" / "core" / "face.c", *core]
        made = [folder / f"{source.stem}.o" for source in sources]
        harness.objects.parallel(
            [
                functools.partial(harness._compile, shop, tools, source, out, flags[source.suffix])
                for source, out in zip(sources, made)
            ]
        )
        inputs = [*made, *(stand_in / f"{path.stem}.o" for path in harness.stand_in())]
        link = [*tools.compiler, *variant.flags, "-pthread", *map(str, inputs), "-o", str(folder / "face")]
        shop.make(folder / "face", [*link, *tools.libraries], inputs)
    return folder / "face", stand_in / "library.metallib"


@pytest.mark.parametrize("device", ["cpu", "checker"])
@pytest.mark.parametrize("variant", ["plain", "address"])
def test_every_failure_fills_the_error_in(variant, device):
    variant = harness.VARIANTS[variant]
    path, library = program(variant)
    done = subprocess.run([path, library, device], capture_output=True, text=True, env=variant.environment)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len(lines) > 15 and (done.returncode, done.stderr) == (0, "")
