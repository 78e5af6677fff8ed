"""Building and installing: what is made again and when, what a machine that cannot build says, what
is in a wheel."""

import io
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.metallib import Library
from support.paths import ROOT

from pipeline import errors, metalc
from pipeline.device import resources
from pipeline.metalc import bundle, toolchain, units
from pipeline.metalc.toolchain import CHECKER, CUDA, runnable_isas

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


def test_jobs_of_the_lowest_rank_come_first(objects):
    pool, busy, begun, order = objects.Pool(workers=1), threading.Event(), threading.Event(), []
    first = pool.submit(5, lambda: (busy.set(), begun.wait()))  # the worker is busy until all others wait in the queue
    assert busy.wait(10)
    jobs = [pool.submit(rank, order.append, (rank, number)) for number, rank in enumerate([2, 0, 1, 0])]
    begun.set()
    for job in (first, *jobs):
        job.result(10)
    assert order == [(0, 1), (0, 3), (1, 2), (2, 0)]
    pool.close()


def test_a_pool_passes_errors_on_and_forgets_what_has_not_begun(objects):
    pool, started, go = objects.Pool(workers=1), threading.Event(), threading.Event()

    def last():
        started.set()
        assert go.wait(10)

    with pytest.raises(ZeroDivisionError):
        pool.submit(0, lambda: 1 // 0).result(10)
    assert list(pool.map(int.__add__, [1, 2], [10, 20])) == [11, 22]
    running = pool.submit(0, last)
    assert started.wait(10)
    waiting = pool.submit(0, pytest.fail)
    threading.Timer(0.05, go.set).start()
    pool.close(cancel=True)
    assert running.done() and waiting.cancelled() and pool.submit(0, pytest.fail).cancelled()


# ---- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def progress(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import progress

    return progress


def test_a_log_gets_a_line_now_and_then(progress):
    log = io.StringIO()
    shown = progress.Progress(3, log, interval=0.05)
    shown.start()
    shown.done("a.m")
    deadline = time.monotonic() + 10
    while "building 1 of 3, 0 s\n" not in log.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    shown.say("onebuf: a line")
    shown.end()
    lines = log.getvalue().splitlines()
    assert lines[-1] == "onebuf: a line" and set(lines[:-1]) == {"onebuf: building 1 of 3, 0 s"}


def test_a_short_build_says_nothing_in_a_log(progress):
    log = io.StringIO()
    shown = progress.Progress(1, log)
    shown.start()
    shown.done()
    shown.end()
    assert log.getvalue() == ""


def test_a_terminal_shows_one_line_in_place(progress, monkeypatch):
    monkeypatch.setenv("COLUMNS", "32")
    terminal, clear = Terminal(), "\r\x1b[K"
    shown = progress.Progress(2, terminal)
    shown.start()
    shown.done("shaders/linear.metal")
    shown.say("a warning")
    shown.end()
    count = "onebuf: building 1 of 2  shader"  # cut where the terminal ends
    assert terminal.getvalue() == "onebuf: building 0 of 2  " + clear + count + clear + "a warning\n" + count + clear


# ---- what a build compiles


@pytest.fixture
def builder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delenv("OB_ISAS", raising=False)
    monkeypatch.chdir(ROOT)
    import builder

    return builder


@linux_only
def test_a_run_needs_one_instruction_set_tests_all_of_this_processor_a_wheel_all(builder):
    run, test, wheel = map(builder.parts_of, ("run", "test", "wheel"))
    assert run.shaders == runnable_isas()[-1:] and len(run.native) <= 1
    assert test.shaders == (*runnable_isas(), CHECKER)
    assert wheel.shaders == (*toolchain.default_isas(), CUDA)
    assert set(run.native) <= set(test.native) <= set(wheel.native)
    assert all(builder.part_with(isa) == builder.Parts((isa,), ()) for isa in (CHECKER, CUDA))


@linux_only
def test_the_core_takes_what_a_run_builds(builder):
    run = builder.parts_of("run")
    best = run.native or run.shaders
    environment = {"OB_ISA": "", "OB_NATIVE": ""}
    code = "from pipeline import _core; print(_core.open_device('cpu').isa)"
    assert run_python(code, **environment).stdout.split() == list(best)


@linux_only
def test_ob_isas_names_what_is_built(builder, monkeypatch):
    first = toolchain.processor_isas()[0]
    monkeypatch.setenv("OB_ISAS", f"{first},{CHECKER}")
    for goal in builder.GOALS:
        assert builder.parts_of(goal) == builder.Parts((first, CHECKER), ())
    monkeypatch.setenv("OB_ISAS", "none")
    assert all(builder.parts_of(goal) == builder.Parts((), ()) for goal in builder.GOALS)
    table = (ROOT / "docs/command-line.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith("| `OB_ISAS` |")]
    assert all(f"`{isa}`" in row for isa in toolchain.ISA_FLAGS)


@linux_only
def test_amx_needs_the_processor_and_the_systems_leave(builder, monkeypatch):
    if toolchain.processor_isas() == ("generic",):
        pytest.skip("native kernels are for x86-64")
    flags = "avx2 fma bmi2 avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni amx_tile amx_int8"
    monkeypatch.setattr(toolchain, "processor_flags", lambda: set(flags.split()))
    for leave, native in ((True, "amx"), (False, "vnni")):
        monkeypatch.setattr(builder.native_kernels, "_may_use_tiles", lambda leave=leave: leave)
        assert builder.parts_of("run") == builder.Parts(("avx512",), (native,))
    monkeypatch.setattr(toolchain, "processor_flags", lambda: {"sse2"})
    assert builder.parts_of("run") == builder.Parts(("baseline",), ())


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory):
    """A source tree with one short shader and the core of this one."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "onebuf.metallib")
    for folder in ("pipeline", "tools", "objc"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    shutil.copytree(ROOT / "shaders", tree / "shaders", ignore=lambda _, names: [n for n in names if ".metal" in n])
    shutil.copy(ROOT / "shaders/logits_penalty.metal", tree / "shaders")
    return tree


def run_python(code, cwd=ROOT, **environment):
    return run(sys.executable, "-c", code, cwd=cwd, PYTHONPATH=str(cwd), OB_ISAS="", **environment)


@linux_only
def test_a_device_that_is_not_built_yet_is_built_when_a_shader_is_needed(small_tree):
    plain = toolchain.processor_isas()[0]
    bundle = small_tree / "pipeline/onebuf.metallib"
    shutil.rmtree(bundle, ignore_errors=True)
    assert run(sys.executable, "tools/builder.py", plain, cwd=small_tree, OB_ISAS="").returncode == 0
    before = {path.name: path.stat().st_ino for path in bundle.glob("*.so")}
    assert list(before) == [f"{plain}.so"]
    code = "import pipeline; d = pipeline.open_device('checker'); d.kernel('penalty_copy'); print(d.name)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(small_tree), "OB_ISAS": ""}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=small_tree, env=environment, **options) for _ in range(2)]
    said = [job.communicate() for job in both]
    assert [(job.returncode, out) for job, (out, _) in zip(both, said)] == [(0, "checker\n")] * 2, said
    line = "onebuf: compiling what checker needs, once, because it is used for the first time"
    assert sum(errors.splitlines().count(line) for _, errors in said) == 1, said
    after = {path.name: path.stat().st_ino for path in bundle.glob("*.so")}
    assert after.keys() == {f"{plain}.so", "checker.so"} and before.items() <= after.items()
    again = run_python(code, small_tree)
    assert (again.stdout, again.stderr) == ("checker\n", "")


@linux_only
def test_a_device_that_cannot_be_built_says_why_in_its_last_line(small_tree):
    bundle = small_tree / "pipeline/onebuf.metallib"
    (bundle / "checker.so").unlink(missing_ok=True)
    bundle.mkdir(exist_ok=True)
    code = "import pipeline; pipeline.open_device('checker').kernel('penalty_copy')"
    done = run_python(code, small_tree, CXX="no-such-compiler")
    assert "CXX=no-such-compiler" in done.stderr
    assert done.stderr.endswith("what checker needs did not build, as said above: run make build\n")


@linux_only
def test_what_was_left_out_on_purpose_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    (tmp_path / "onebuf.metallib").mkdir()
    monkeypatch.setenv("OB_ISAS", "avx2")
    with pytest.raises(errors.OnebufError, match="not compiled for the checker: add checker to OB_ISAS"):
        resources.shader_library(CHECKER)
    assert resources.shader_library("avx512") == tmp_path / "onebuf.metallib"
    monkeypatch.delenv("OB_ISAS")
    monkeypatch.setattr(resources, "_TREE", tmp_path)
    with pytest.raises(errors.OnebufError, match="not compiled for the checker: reinstall"):
        resources.shader_library(CHECKER)


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
        "onebuf: no Objective-C compiler; no C++ compiler: apt-get install gobjc g++"
    )


@linux_only
def test_a_compiler_that_cannot_do_objective_c_is_named():
    assert refused(CC="false").startswith("onebuf: CC=false does not compile Objective-C with GCC's runtime: ")


@linux_only
def test_a_cxx_that_is_not_there_is_named():
    assert "CXX=no-such-compiler" in refused(CXX="no-such-compiler")


@linux_only
def test_the_toolchain_lists_the_packages_that_are_missing(tmp_path):
    script = ROOT / "tools/toolchain.py"
    listed = run(sys.executable, script, PATH=str(tmp_path), CC="", CXX="")
    assert listed.stdout.split() == ["gobjc", "g++"]
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

    text = "libobjc.so.4: cannot open shared object file: No such file or directory"
    said = str(native._explain(ImportError(text)))
    assert said.startswith("libobjc.so.4 is missing: apt-get install libobjc4, or ")


@linux_only
def test_the_shaders_compile_as_one_text_too(tmp_path):
    """What a Mac without the offline compiler does when it opens a device."""
    isa = runnable_isas()[-1]
    text = tmp_path / "all.metal"
    text.write_text(resources.shader_text())
    assert '#include "' not in text.read_text()
    with ThreadPoolExecutor(1) as pool:
        (unit,) = units.read_all(pool, [str(text)], (), (), isa)
    (tmp_path / "all.cpp").write_text(unit.source)
    command = [*bundle._command(["-w"], isa, toolchain.isa_flags(isa)), "-fsyntax-only"]  # code is made from parts
    done = run(*command, tmp_path / "all.cpp")
    assert (done.returncode, done.stderr) == (0, "")
    separate = Library(resources.shader_library(), isa)
    assert sorted(kernel.name for kernel in unit.kernels) == sorted(separate.functions)


@linux_only
def test_opening_a_device_prints_nothing(tmp_path):
    """Nor where there is no time zone, no home or no language to be found."""
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
    monkeypatch.chdir(ROOT)
    absent = set(native_kernels.ISAS) - set(native_kernels.runnable_isas())
    for isa, source in itertools.product(sorted(absent), native_kernels.sources()):
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


@linux_only
def test_a_wheel_for_other_machines_names_the_compilers_that_it_lacks(tmp_path):
    command = [sys.executable, "tools/builder.py", "wheel", "--target"]
    lacking = run(*command, "linux_aarch64", PATH=str(tmp_path))
    packages = "apt-get install g++-aarch64-linux-gnu gobjc-aarch64-linux-gnu"
    assert (lacking.returncode, lacking.stderr.splitlines()[-1].rpartition(": ")[2]) == (1, packages)
    assert "choose one of: macosx_14_0_arm64" in run(*command, "linux_z80").stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("Cython")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    isas = " ".join(runnable_isas()[:2])  # the tree built for tests has them: nothing is compiled for it
    done = run(sys.executable, "-m", "pip", "wheel", *options, ROOT, OB_ISAS=isas)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    if sys.platform != "linux":
        return path
    pytest.importorskip("auditwheel")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import make_wheel as tool

    monkeypatch.undo()
    return tool.repair(path, folder / "whole")


def files_of(wheel):
    return [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]


def test_a_wheel_serves_every_newer_python(wheel):
    assert "-cp311-abi3-" in wheel.name
    names = files_of(wheel)
    assert "pipeline/_core.abi3.so" in names
    shipped = {name.removeprefix("pipeline/shaders/") for name in names if name.startswith("pipeline/shaders/")}
    folder = ROOT / "shaders"
    own = [*folder.glob("*.metal"), *folder.glob("*.h"), *folder.glob("weights/*.h")]
    assert shipped == {p.relative_to(folder).as_posix() for p in own}
    assert not [name for name in names if not name.startswith(("pipeline/", "onebuf-", "onebuf.libs/"))]
    assert not [name for name in names if name.endswith((".pyx", ".m", ".o", ".pyc"))]


@linux_only
def test_a_wheel_brings_the_library_that_a_system_may_lack_and_its_license(wheel):
    assert f"-manylinux_2_34_{platform.machine()}.whl" in wheel.name
    names = files_of(wheel)
    (library,) = [name for name in names if name.startswith("onebuf.libs/")]
    assert library.startswith("onebuf.libs/libobjc-")
    notices = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert notices == {"LICENSE", "NOTICE.txt", "GPL-3.0.txt", "GCC-exception-3.1.txt"}


@linux_only
def test_an_installed_wheel_runs_away_from_the_source_tree(wheel, tmp_path):
    site, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    source = "#include <metal_stdlib>\nkernel void own(device int *a [[buffer(0)]]) { a[0] = 1; }"
    code = f"""
import pathlib, pipeline
from pipeline.checkpoints import builtin_model
from pipeline.device import resources
assert pathlib.Path(pipeline.__file__).is_relative_to({str(site)!r}), pipeline.__file__
assert resources.shader_library().is_relative_to({str(site)!r})
assert "kernel void" in resources.shader_text()
assert (builtin_model() / "config.json").is_file()
pipeline.open_device().compile({source!r}).kernel("own")
maps = pathlib.Path("/proc/self/maps").read_text()
assert "/onebuf.libs/libobjc-" in maps and "/libobjc.so" not in maps
"""
    place = {"PYTHONPATH": str(site), "OB_CACHE": str(tmp_path / "cache")}
    done = run(sys.executable, "-c", code, cwd=away, **place)
    assert done.returncode == 0, done.stderr
    story = [sys.executable, "-m", "pipeline.run", "--max-tokens", "8", "--temperature", "0"]
    done = run(*story, cwd=away, **place)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
