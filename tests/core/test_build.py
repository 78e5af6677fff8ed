"""Building and installing: what is made again and when, what a machine that cannot build says, what
is in a wheel."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from support.metallib import Library
from support.paths import ROOT

from pipeline import errors, metalc
from pipeline.device import resources
from pipeline.metalc import toolchain
from pipeline.metalc.toolchain import CHECKER, runnable_isas

IN_VENV = Path(sys.prefix) == ROOT / ".venv"
linux_only = pytest.mark.skipif(sys.platform == "darwin", reason="a Mac's compilers are Xcode's")

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree")


def run(*command, cwd=ROOT, **environment):
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


# ---- incremental compilation


@pytest.fixture
def objects(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import objects

    return objects


@pytest.fixture
def compile_c(objects, tmp_path):
    """Compiles tmp_path/a.c, which includes a.h; returns whether the compiler ran."""
    (tmp_path / "a.h").write_text("#define VALUE 1\n")
    (tmp_path / "a.c").write_text('#include "a.h"\nint value(void) { return VALUE; }\n')

    def compile_c(*flags, identity="cc 1"):
        shop = objects.Workshop(tmp_path, tmp_path / "out", identity)
        out, deps = tmp_path / "out/a.o", tmp_path / "out/a.d"
        command = ["gcc", *flags, "-MMD", "-MF", str(deps), "-c", "a.c", "-o", str(out)]
        return shop.make(out, command, [Path("a.c")], deps)

    return compile_c


@linux_only
def test_nothing_is_compiled_again_without_a_change(compile_c, tmp_path):
    assert compile_c()
    assert not compile_c()
    os.utime(tmp_path / "a.c")  # a checkout touches files without changing them
    assert not compile_c()


@linux_only
@pytest.mark.parametrize("name", ["a.c", "a.h"])
def test_a_changed_source_or_header_is_compiled_again(compile_c, tmp_path, name):
    compile_c()
    path = tmp_path / name
    stamps = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text(path.read_text() + "// changed\n")
    os.utime(path, ns=stamps)  # content decides, not time
    assert compile_c()
    assert not compile_c()


@linux_only
def test_other_flags_or_another_compiler_compile_again(compile_c):
    compile_c()
    assert compile_c("-O1")
    assert compile_c("-O1", identity="cc 2")


@linux_only
def test_a_failed_compilation_says_what_and_is_tried_again(objects, compile_c, tmp_path):
    compile_c()
    good = (tmp_path / "a.c").read_text()
    (tmp_path / "a.c").write_text("int value(void) { return nothing; }\n")
    for _ in range(2):
        with pytest.raises(objects.CommandError, match="a.c does not build") as caught:
            compile_c()
        assert "nothing" in caught.value.output
    (tmp_path / "a.c").write_text(good)
    assert compile_c()


def test_a_compiler_that_is_not_there_is_one_line(objects, tmp_path):
    shop = objects.Workshop(tmp_path, tmp_path, "")
    with pytest.raises(objects.CommandError, match="no-such-compiler does not start"):
        shop.make(tmp_path / "a.o", ["no-such-compiler"], [])


def test_install_replaces_by_renaming_and_only_what_differs(objects, tmp_path):
    source, target = tmp_path / "new", tmp_path / "old"
    for folder, same in ((source, "1"), (target, "1")):
        folder.mkdir()
        (folder / "same").write_text(same)
    (source / "other").write_text("2")
    (target / "other").write_text("1")
    (target / "stale").write_text("3")
    before = {path.name: path.stat().st_ino for path in target.iterdir()}
    with open(target / "other") as mapped:
        objects.install(source, target)
        assert mapped.read() == "1"
    after = {path.name: path.stat().st_ino for path in target.iterdir()}
    assert sorted(after) == ["other", "same"]
    assert after["same"] == before["same"] and after["other"] != before["other"]
    assert (target / "other").read_text() == "2"


# ---- machines that cannot build


def refused(**environment):
    """The one line that the build ends with."""
    pytest.importorskip("Cython")
    done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    (line,) = done.stderr.splitlines()
    return line


@linux_only
def test_missing_compilers_are_named_in_one_line(tmp_path):
    assert refused(PATH=str(tmp_path), CC="", CXX="") == (
        "onebuf: no Objective-C compiler with GNUstep Base; no C++ compiler: "
        "apt-get install gobjc libgnustep-base-dev g++"
    )


@linux_only
def test_a_compiler_that_cannot_do_objective_c_is_named():
    assert refused(CC="false").startswith("onebuf: CC=false does not compile Objective-C with GNUstep Base: ")


@linux_only
def test_a_cxx_that_is_not_there_is_named():
    assert "CXX=no-such-compiler" in refused(CXX="no-such-compiler")


@linux_only
def test_the_toolchain_lists_the_packages_that_are_missing(tmp_path):
    script = ROOT / "tools/toolchain.py"
    listed = run(sys.executable, script, PATH=str(tmp_path), CC="", CXX="")
    assert listed.stdout.split() == ["gobjc", "libgnustep-base-dev", "g++"]
    assert run(sys.executable, script).stdout == ""


@pytest.mark.skipif(not IN_VENV, reason="sets up .venv")
def test_set_up_is_quick_and_silent_when_nothing_is_missing():
    assert run("tools/setup.sh", "test").returncode == 0
    start = time.monotonic()
    done = run("tools/setup.sh", "test")
    assert time.monotonic() - start < 3
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- what the package brings along


def test_a_package_without_its_shaders_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(errors.OnebufError, match="no compiled shaders there: run make build"):
        resources.shader_library()
    monkeypatch.setattr(resources, "_TREE", tmp_path)
    with pytest.raises(errors.OnebufError, match="no compiled shaders there: reinstall"):
        resources.shader_library()
    with pytest.raises(errors.OnebufError, match="no shader sources there: reinstall"):
        resources.shader_text()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert resources.shader_library() is None


@pytest.mark.parametrize(
    "library, said",
    [
        (None, "pipeline._core is not built: reinstall"),
        (b"not a library", "pipeline._core does not load (.*): reinstall"),
    ],
)
def test_a_core_that_does_not_load_is_one_line(tmp_path, library, said):
    ignored = shutil.ignore_patterns("_core*", "__pycache__", "onebuf.metallib")
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=ignored)
    if library:
        (tmp_path / "pipeline/_core.abi3.so").write_bytes(library)
    done = run(sys.executable, "-m", "pipeline.run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"onebuf: error: {said}.*\n", done.stderr), done.stderr


def test_a_missing_library_is_named_with_its_package():
    from pipeline.device import core as native

    text = "libgnustep-base.so.1.28: cannot open shared object file: No such file or directory"
    said = str(native._explain(ImportError(text)))
    assert said.startswith("libgnustep-base.so.1.28 is missing: apt-get install libgnustep-base1.28, or ")


@linux_only
def test_the_shaders_compile_as_one_text_too(tmp_path):
    """What a Mac without the offline compiler does when it opens a device."""
    isa = metalc.default_isas()[0]
    text = tmp_path / "all.metal"
    text.write_text(resources.shader_text())
    assert '#include "' not in text.read_text()
    bundle = metalc.build([text], tmp_path / "all.metallib", [isa], optimize="0")
    separate = Library(resources.shader_library(), isa)
    assert sorted(Library(bundle, isa).functions) == sorted(separate.functions)


@linux_only
def test_opening_a_device_prints_nothing(tmp_path):
    """GNUstep complains where there is no time zone, no home or no language to be found."""
    code = "import pipeline; assert pipeline.open_device().name == 'cpu'"
    odd = {"TZ": "No/Where", "LANG": "xx_XX", "LC_ALL": "", "HOME": str(tmp_path / "none")}
    done = run(sys.executable, "-c", code, **odd)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@linux_only
def test_native_kernels_compile_for_instruction_sets_that_are_not_here(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import native_kernels

    if toolchain.processor_isas() == ("generic",):
        pytest.skip("native kernels are for x86-64")
    absent = [isa for isa, (shaders, _) in native_kernels.ISAS.items() if shaders not in runnable_isas()]
    for isa, source in itertools.product(absent, sorted((ROOT / "objc/metal/cpu/native").glob("*.cpp"))):
        done = run(*toolchain.compiler(), *native_kernels.flags(isa), "-Werror", "-fsyntax-only", source)
        assert (done.returncode, done.stderr) == (0, ""), isa


@linux_only
def test_shaders_compile_for_instruction_sets_that_are_not_here(tmp_path):
    """A library of all of them, of one small file; an instruction set of another name is refused."""
    isas = toolchain.default_isas()
    bundle = metalc.build([ROOT / "shaders/logits_penalty.metal"], tmp_path / "out.metallib", isas, build_dir=tmp_path)
    assert {path.stem for path in bundle.glob("*.so")} == set(isas)
    done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", OB_ISAS="avx1024")
    assert done.returncode != 0 and "avx1024" in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("Cython")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    isas = " ".join((*runnable_isas(), CHECKER))  # what the source tree has: nothing is compiled for it
    done = run(sys.executable, "-m", "pip", "wheel", *options, ROOT, OB_ISAS=isas)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_a_wheel_serves_every_newer_python(wheel):
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "pipeline/_core.abi3.so" in names
    shipped = {name.removeprefix("pipeline/shaders/") for name in names if name.startswith("pipeline/shaders/")}
    folder = ROOT / "shaders"
    own = [*folder.glob("*.metal"), *folder.glob("*.h"), *folder.glob("weights/*.h")]
    assert shipped == {p.relative_to(folder).as_posix() for p in own}
    assert not [name for name in names if not name.startswith(("pipeline/", "onebuf-"))]
    assert not [name for name in names if name.endswith((".pyx", ".m", ".o", ".pyc"))]


@linux_only
def test_an_installed_wheel_runs_away_from_the_source_tree(wheel, tmp_path):
    site, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    source = "#include <metal_stdlib>\nkernel void own(device int *a [[buffer(0)]]) { a[0] = 1; }"
    code = f"""
import pathlib, pipeline
from pipeline import resources, storyteller
assert pathlib.Path(pipeline.__file__).is_relative_to({str(site)!r}), pipeline.__file__
assert resources.shader_library().is_relative_to({str(site)!r})
assert "kernel void" in resources.shader_text()
assert (storyteller.builtin_model() / "config.json").is_file()
pipeline.open_device().compile({source!r}).kernel("own")
"""
    place = {"PYTHONPATH": str(site), "OB_CACHE": str(tmp_path / "cache")}
    done = run(sys.executable, "-c", code, cwd=away, **place)
    assert done.returncode == 0, done.stderr
    story = [sys.executable, "-m", "pipeline.run", "--max-tokens", "8", "--temperature", "0"]
    done = run(*story, cwd=away, **place)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
