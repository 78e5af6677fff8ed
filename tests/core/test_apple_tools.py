"""What is asked of a Mac's tools, which are played here: the compiler that only seems to be there, the version of the
language, the frameworks."""

import subprocess

import pytest
from support.paths import ROOT

from pipeline.device import resources
from pipeline.errors import DeviceError


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import apple_shaders
    import toolchain

    return apple_shaders, toolchain


def played(tmp_path, monkeypatch, script):
    """xcrun, which writes down how it was called."""
    (tmp_path / "xcrun").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
    (tmp_path / "xcrun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "calls"


def test_a_compiler_that_only_seems_to_be_there_is_left_alone(tools, tmp_path, monkeypatch):
    """Xcode 26: finding it succeeds, running it says that the toolchain must be downloaded."""
    stub = 'case "$*" in *" -f metal") echo /somewhere/metal;; *) echo "error: cannot execute tool" >&2; exit 1;; esac'
    played(tmp_path, monkeypatch, stub)
    assert subprocess.run(["xcrun", "-sdk", "macosx", "-f", "metal"], capture_output=True).returncode == 0
    assert not tools[0].available()


def test_shaders_are_compiled_as_the_first_version_that_has_bfloat(tools, tmp_path, monkeypatch):
    apple_shaders, _ = tools
    import objects

    files = 'case $1 in -MF) echo "a.air:" > "$2";; -o) echo made > "$2";; esac'
    calls = played(tmp_path, monkeypatch, f"while [ $# -gt 0 ]; do {files}; shift; done")
    source = tmp_path / "a.metal"
    source.write_text("kernel void a() {}\n")
    shop = objects.Workshop(tmp_path, tmp_path / "objects", "metal", print)
    (tmp_path / "objects").mkdir(exist_ok=True)
    pool = objects.Pool()
    apple_shaders.build(shop, [source], tmp_path / "out.metallib", pool)
    pool.close()
    lines = calls.read_text().splitlines()
    (compiled,) = [line for line in lines if " -c " in line]
    assert "-std=metal3.1" in compiled and "-fno-fast-math" in compiled
    assert (tmp_path / "out.metallib").read_text() == "made\n"


@pytest.mark.parametrize("release, refused", [("13.6.9", True), ("14.0", False), ("26.1", False)])
def test_a_system_without_bfloat_is_named(release, refused, monkeypatch):
    monkeypatch.setattr(resources.sys, "platform", "darwin")
    monkeypatch.setattr(resources.platform, "mac_ver", lambda: (release, ("", "", ""), "arm64"))
    if refused:
        with pytest.raises(DeviceError, match="macOS 13.6.9: its Metal has no bfloat; update to macOS 14 or newer"):
            resources.check_system()
    else:
        resources.check_system()


def test_the_core_links_the_frameworks_that_a_program_without_a_window_needs(tools, monkeypatch):
    _, toolchain = tools
    monkeypatch.setattr(toolchain.sys, "platform", "darwin")
    monkeypatch.setattr(toolchain.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0))
    made = toolchain._apple()
    assert made.libraries[1::2] == ["Foundation", "Metal", "CoreGraphics"] and set(made.libraries[::2]) == {
        "-framework"
    }
    # Without it, the core would need the macOS of the machine that compiled it.
    assert all("-mmacosx-version-min=14.0" in flags for flags in (made.c_flags, made.objc_flags, made.link_flags))


@pytest.fixture
def builder(tools, monkeypatch):
    """tools/builder.py, as it is for a Mac with Apple's processor."""
    import builder

    from pipeline.metalc import target

    target.choose(target.Target(target.DARWIN, "arm64"))
    monkeypatch.delenv("OB_ISAS", raising=False)
    yield builder
    target.choose(None)


def test_a_mac_has_code_for_its_processor_and_the_checker_beside_apples_library(builder):
    assert builder.parts_of("run") == builder.Parts(("generic",), ())
    assert builder.parts_of("test") == builder.parts_of("wheel") == builder.Parts(("generic", "checker"), ())
    assert builder.bundle_name() == "onebuf-host.metallib" != builder.LIBRARY


def test_what_is_compiled_for_a_mac_is_apples_metal_and_two_devices(builder):
    import core

    compiled = {path.as_posix() for path in core.objc_sources()}
    assert {"objc/core/OBChain.m", "objc/metal/devices.m", "objc/metal/devicesDarwin.m"} <= compiled
    assert {"objc/metal/cpu/CPUPool.c", "objc/metal/checker/CheckerDevice.m"} <= compiled
    others = ("objc/metal/api/", "objc/metal/cuda/", "objc/foundation/")
    assert not [path for path in compiled if path.startswith(others) or path.endswith(("Linux.c", "Linux.m"))]
    own = {"OBMResidencySetLinux.m"}  # a class that is Apple's on a Mac
    of_linux = {path.name for path in (ROOT / "objc").rglob("*Linux.[cm]")} - own
    assert {name.replace("Linux", "Darwin") for name in of_linux} == {
        path.name for path in (ROOT / "objc").rglob("*Darwin.[cm]")
    }


@pytest.mark.parametrize("isa, name", [("", "onebuf.metallib"), ("generic", "onebuf-host.metallib")])
def test_apples_device_and_the_others_open_libraries_of_their_own(isa, name, tmp_path, monkeypatch):
    monkeypatch.setattr(resources.sys, "platform", "darwin")
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    monkeypatch.setattr(resources, "_TREE", tmp_path)
    assert resources.shader_library(isa) is None  # compiled when the device is opened
    (tmp_path / "onebuf.metallib").write_text("")
    (tmp_path / "onebuf-host.metallib").mkdir()
    (tmp_path / "onebuf-host.metallib" / "generic.so").write_text("")
    assert resources.shader_library(isa) == tmp_path / name
