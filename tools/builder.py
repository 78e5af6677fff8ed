"""Builds what is not Python: pipeline._core and pipeline/onebuf.metallib, the compiled shaders and native kernels.

    python tools/builder.py run     what a run on this processor needs
    python tools/builder.py test    all that this processor runs, and the checker
    python tools/builder.py wheel   all that a wheel has, compiled ahead of `pip wheel`
    python tools/builder.py wheel --target TAG
                                    a wheel for other machines, in dist: macosx_14_0_arm64, linux_aarch64 (cross_mac.py
                                    and cross_linux.py say with what)
    python tools/builder.py ISA     adds an instruction set, such as avx2, checker or cuda, to what is there

With --prepare COMMAND, `COMMAND system` and `COMMAND python` install what the core needs while shaders compile.
OB_ISAS names the shaders' instruction sets in place of those of a goal; OB_ARCHS names the GPUs whose kernels are
compiled ahead with those of cuda. Standard library only: Cython, which the core
needs, may stand in another interpreter, named by --python.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import runpy
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import apple_shaders  # noqa: E402  (found through the line above)
import core  # noqa: E402
import cross_linux  # noqa: E402
import cross_mac  # noqa: E402
import cuda_kernels  # noqa: E402
import native_kernels  # noqa: E402
import objects  # noqa: E402
import progress  # noqa: E402
import toolchain  # noqa: E402

from pipeline import metalc  # noqa: E402
from pipeline.metalc import toolchain as shaders  # noqa: E402
from pipeline.metalc.target import Target, target  # noqa: E402

BUILD = Path("build")
LIBRARY = "onebuf.metallib"
HOST_LIBRARY = "onebuf-host.metallib"  # that of cpu and checker on a Mac, where Apple's has the other name
GOALS = ("run", "test", "wheel")
CORE_RANK = 1  # its many short jobs come after the long ones of shaders, whose rank is 0


say = partial(print, file=sys.stderr, flush=True)


class BuildError(Exception):
    """One line that says what does not build, then what the compiler said; empty where that was said already."""

    def text(self) -> str:
        """The line comes last, where it is seen."""
        first, _, rest = str(self).partition("\n")
        line = first if first.startswith("onebuf: ") else f"onebuf: {first}"
        return f"{rest.rstrip()}\n{line}" if rest.strip() else line


@dataclass(frozen=True)
class Parts:
    """The instruction sets that shaders and native kernels are compiled for."""

    shaders: tuple[str, ...]
    native: tuple[str, ...]

    def __or__(self, other: Parts) -> Parts:
        return Parts(_union(self.shaders, other.shaders), _union(self.native, other.native))


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*a, *b)))


def parts_of(goal: str) -> Parts:
    """What a goal compiles: the fewest parts for a run, all for a wheel, which goes to other machines."""
    named = tuple(os.environ.get("OB_ISAS", "").replace(",", " ").split())
    if named == ("none",):  # for who checks shaders of their own and runs no model
        return Parts((), ())
    if goal == "wheel":
        chosen = named or (*shaders.default_isas(), *(() if target().is_mac else (shaders.CUDA,)))
        return Parts(chosen, native_kernels.isas_for(chosen))
    runnable = native_kernels.runnable_isas()
    if named:
        return Parts(named, tuple(isa for isa in native_kernels.isas_for(named) if isa in runnable))
    if goal == "test":
        return Parts((*shaders.runnable_isas(), shaders.CHECKER), runnable)
    return Parts(shaders.runnable_isas()[-1:], runnable[-1:])


def native() -> Path:
    """The folder of objects: one for each kind of machine that is compiled for."""
    return BUILD / (f"native-{target().system}-{target().machine}" if target() != Target.here() else "native")


def bundle_name() -> str:
    """What the folder of compiled shaders is called."""
    return HOST_LIBRARY if target().is_mac else LIBRARY


def part_with(isa: str) -> Parts:
    """What a device needs whose instruction set is `isa`, or checker, or cuda."""
    if isa in native_kernels.ISAS:
        return Parts((native_kernels.ISAS[isa][0],), (isa,))
    return Parts((isa,), ())


def parts_there(library: Path) -> Parts:
    """What a bundle has already."""
    return Parts(*(tuple(sorted(path.stem for path in part.glob("*.so"))) for part in (library, library / "native")))


@contextlib.contextmanager
def only_build() -> Iterator[None]:
    """Holds off other builds of this tree."""
    native().mkdir(parents=True, exist_ok=True)
    with open(native() / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("onebuf: waiting for another build in this folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shader_files() -> list[Path]:
    return sorted(Path("shaders").glob("*.metal"))


def build(
    parts: Parts, out: Path, *, with_core: bool, python: str = sys.executable, prepare: Sequence[str] = ()
) -> Path | None:
    """Compiles `parts` into the bundle `out` and, `with_core`, the extension, whose path it returns.

    Args:
        python: an interpreter that has Cython once `prepare` has run.
        prepare: the words of a command that installs what the core needs; "system" or "python" is added to them.

    Raises:
        BuildError: a compiler is missing or refuses something.
    """
    try:
        return _build(parts, out, with_core, python, prepare)
    except (toolchain.ToolchainError, metalc.CompileError) as error:
        raise BuildError(str(error)) from None
    except objects.CommandError as error:
        raise BuildError(f"{error}\n{error.output}") from None
    except OSError as error:
        raise BuildError(f"{error.filename or out}: {error.strerror}") from None


def _build(parts: Parts, out: Path, with_core: bool, python: str, prepare: Sequence[str]) -> Path | None:
    for isa in parts.shaders:
        shaders.check_isa(isa)
    files, by_hand, objects_in = shader_files(), native_kernels.sources(), native()
    archs = cuda_kernels.archs() if shaders.CUDA in parts.shaders else ()
    total = len(files) * len(parts.shaders) + len(by_hand) * len(parts.native) + len(cuda_kernels.HOT) * len(archs)
    total += core.count() if with_core else 0
    shown, pool = progress.Progress(total), objects.Pool()
    jobs: list[Callable[[], object]] = []
    if parts.native:
        shop = objects.Workshop(ROOT, objects_in, shaders.compiler_version(), shown.say)
        jobs.append(partial(native_kernels.build, shop, out / "native", parts.native, pool, shown.done))
    if parts.shaders:
        folder = objects_in / "shaders"
        ahead = {"archs": archs, "ahead": cuda_kernels.HOT}
        jobs.append(
            partial(metalc.build, files, out, parts.shaders, build_dir=folder, pool=pool, done=shown.done, **ahead)
        )
    if target().is_mac:
        shop = objects.Workshop(ROOT, objects_in, "metal", shown.say)
        jobs.append(partial(apple_shaders.build, shop, files, out.with_name(LIBRARY), pool))
    if with_core:
        compilation = core.Core(ROOT, objects_in, pool, CORE_RANK, shown.done, shown.say)
        jobs.append(partial(_build_core, compilation, python, prepare, shown))
    shown.start()
    tasks = [Task(job) for job in jobs]
    try:
        for task in wait(tasks, return_when=FIRST_EXCEPTION).done:
            task.result()
    except BaseException:
        pool.close(cancel=True)
        wait(tasks)
        raise
    finally:
        shown.end()
    pool.close()
    return tasks[-1].result() if with_core else None


def _build_core(compilation: core.Core, python: str, prepare: Sequence[str], shown: progress.Progress) -> Path:
    if not prepare:
        return core.build(compilation, python)
    packages = Task(partial(_run_showing, [*prepare, "python"], shown))
    _run_showing([*prepare, "system"], shown)
    return core.build(compilation, python, packages.result)


def _run_showing(command: list[str], shown: progress.Progress) -> None:
    """Runs a command; its lines go where the count does not overwrite them."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as job:
        for line in job.stdout:
            shown.say(line.decode(errors="replace").rstrip())
    if job.returncode:
        raise BuildError  # it has said why


class Task(Future):
    """A function in a thread of its own: one that mostly waits for the pool's jobs, and so is none of them."""

    def __init__(self, function) -> None:
        super().__init__()
        threading.Thread(target=self._run, args=(function,), daemon=True).start()

    def _run(self, function) -> None:
        try:
            self.set_result(function())
        except BaseException as error:  # it belongs to whoever waits for the result
            self.set_exception(error)


def build_tree(goal: str, python: str = sys.executable, prepare: Sequence[str] = (), keep: bool = False) -> None:
    """Makes this source tree ready for a goal; for a wheel, compiles only. What the goal does not need leaves the tree,
    because it may be out of date, or with `keep` is brought up to date too."""
    with only_build():
        out = (native() if goal == "wheel" else Path("pipeline")) / bundle_name()
        parts = parts_of(goal) | parts_there(out) if keep and out.is_dir() else parts_of(goal)
        built = build(parts, out, with_core=True, python=python, prepare=prepare)
        if goal != "wheel":
            objects.install(built, Path("pipeline") / core.NAME)


def add_part(isa: str) -> None:
    """Adds to the source tree's bundle what a device of instruction set `isa` needs, unless it is there."""
    library = Path("pipeline") / bundle_name()
    with only_build():
        there = parts_there(library)
        wanted = there | part_with(isa)
        if wanted != there:
            say(f"onebuf: compiling what {isa} needs, once, because it is used for the first time")
            build(wanted, library, with_core=False)


def cross_wheel(tag: str, folder: Path) -> None:
    """Makes a wheel for other machines in a folder. Raises BuildError."""
    known = {known: module for module in (cross_mac, cross_linux) for known in module.TAGS}
    if tag not in known:
        raise BuildError(f"no wheel is made for {tag!r} here; choose one of: {', '.join(known)}")
    try:
        known[tag].choose(tag)
    except metalc.CompileError as error:
        raise BuildError(str(error)) from None
    sys.argv = ["setup.py", "-q", "bdist_wheel", "--dist-dir", str(folder), "--bdist-dir", str(native() / "wheel")]
    sys.argv += ["build", "--build-base", str(native() / "build")]
    runpy.run_path("setup.py", run_name="__main__")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/builder.py", description="Builds the core and the shaders.")
    parser.add_argument("what", metavar="run|test|wheel|ISA")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--prepare", metavar="COMMAND", type=shlex.split, default=())
    parser.add_argument("--target", metavar="TAG", help="the wheel's tag, such as macosx_14_0_arm64")
    parser.add_argument("--into", metavar="FOLDER", type=Path, default=Path("dist"), help="for that wheel")
    options = parser.parse_args()
    os.chdir(ROOT)
    start = time.monotonic()
    try:
        if options.target:
            if options.what != "wheel":
                parser.error(f"--target is of a wheel, not of {options.what}")
            cross_wheel(options.target, options.into)
        elif options.what in GOALS:
            build_tree(options.what, options.python, options.prepare)
            say(f"onebuf: built in {time.monotonic() - start:.0f} s")
        else:
            add_part(options.what)
    except BuildError as error:
        if str(error):
            say(error.text())
        return 1
    except KeyboardInterrupt:
        say("onebuf: the build was interrupted; what is compiled is kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
