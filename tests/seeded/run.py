"""Shows that the test suite finds seeded mistakes: `python tests/seeded/run.py [NAME …] [--out FILE]`.

mistakes.toml lists small, realistic mistakes, each with the tests that are expected to find it. For each one this
program edits a copy of the source tree, builds what the edit changes, runs those tests until the first failure, and
runs the failing test once more on an unchanged copy, where it must pass. The exit status is 1 if a mistake is not
found, or if the list itself is wrong: a text that does not occur exactly once, or an edit that does not compile.

Copies stay in the scratch folder, so that a second run compiles only what has changed. All instruction sets but one
are left out of the copies, because each of them is compiled from the same sources.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mistakes.toml")
KINDS = ("python", "shader", "native", "core")
ISAS = "avx2 checker"  # of the copies; AVX2 is the one that has a single variant of the native kernels
BUILD_S, TEST_S = 1800, 1200
# What a mistake changes is compiled with less optimisation, in a third of the time. The key of an object does not tell,
# so the unchanged objects are used again; those of a mistake stay in the copy that it is made in.
QUICK_BUILD = """
import runpy, sys
from pipeline.metalc import bundle
compile = bundle._run
bundle._run = lambda command: compile(["-O1" if word == "-O3" else word for word in command])
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+(?: \S+)*?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Mistake:
    """One entry of the list."""

    name: str
    file: str
    find: str
    replace: str
    tests: str  # what pytest is given: files, and -k where a file is long
    kind: str
    wrong: str  # what is wrong, in one line
    isas: str = ISAS  # instruction sets that are compiled with the mistake; the others stay as they were
    new_test: bool = False  # the suite did not find it before a test was written for it
    builds_tests: bool = False  # the tests compile the changed file themselves, so nothing is built beforehand


@dataclass
class Result:
    found: str  # "yes", "no", or what is wrong with the entry
    test: str
    build_s: float
    test_s: float


class ListError(Exception):
    """An entry that proves nothing."""


def read_list(path: Path) -> list[Mistake]:
    mistakes = [Mistake(**entry) for entry in tomllib.loads(path.read_text())["mistake"]]
    names = [mistake.name for mistake in mistakes]
    for mistake in mistakes:
        if names.count(mistake.name) > 1:
            raise ListError(f"{path}: two mistakes are called {mistake.name}; rename one")
        if mistake.kind not in KINDS:
            raise ListError(f"{path}: {mistake.name} has the kind {mistake.kind}; use one of {', '.join(KINDS)}")
    return mistakes


def tracked(source: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return [Path(name) for name in listed.stdout.split("\0") if name and (source / name).is_file()]


def differs(a: Path, b: Path) -> bool:
    if not b.is_file():
        return True
    one, other = a.stat(), b.stat()
    return (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns)


def copy_over(source: Path, target: Path, names: list[Path]) -> None:
    for name in names:
        if differs(source / name, target / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            temporary = (target / name).with_name(f".{name.name}.seeded")
            shutil.copy2(source / name, temporary)  # the old file may be mapped by a process
            os.replace(temporary, target / name)
            forget_bytecode(target / name)


def forget_bytecode(path: Path) -> None:
    """Python would take it where a changed file has the size and second of the one before."""
    if path.suffix == ".py":
        for file in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            file.unlink()


class Trees:
    """Two copies of the source tree: an unchanged one, and one for mistakes."""

    def __init__(self, source: Path, scratch: Path, build: Path | None) -> None:
        self.clean, self.changed, self.kept = scratch / "clean", scratch / "changed", scratch / "kept"
        names = tracked(source)
        for tree in (self.clean, self.changed):
            if tree.is_dir():
                self._drop_stale(tree, set(names))
            copy_over(source, tree, names)
            if build and build.is_dir() and not (tree / "build/native").is_dir():
                shutil.copytree(build / "native", tree / "build/native", symlinks=True)

    @staticmethod
    def _drop_stale(tree: Path, names: set[Path]) -> None:
        for folder in ("pipeline", "objc", "pyx", "shaders", "tests", "tools"):
            for path in (tree / folder).rglob("*"):
                name = path.relative_to(tree)
                if path.is_file() and name not in names and path.suffix not in (".so", ".pyc"):
                    path.unlink()

    def prepare(self) -> None:
        """Builds the unchanged copy, and makes the other one equal to it."""
        build(self.clean)
        self.restore()

    def restore(self) -> None:
        """Makes the changed copy equal to the unchanged one again, built files included."""
        products = [path.relative_to(self.clean) for path in (self.clean / "build/native").rglob("*") if path.is_file()]
        products += [path.relative_to(self.clean) for path in (self.clean / "pipeline").rglob("*.so")]
        kept = [name for name in tracked_in(self.clean) if name.suffix != ".pyc"]
        copy_over(self.clean, self.changed, kept + products)

    def build(self, mistake: Mistake) -> None:
        """Builds the changed copy, unless a run before has built the same; libraries that are not built stay."""
        kept = self.kept / f"{mistake.name}-{self._key(mistake)}"
        names = [path.relative_to(self.clean) for path in (self.clean / "pipeline").rglob("*.so")]
        if not kept.is_dir():
            build(self.changed, mistake.isas, quick=mistake.kind == "shader")
            copy_over(self.clean, self.changed, [name for name in names if not (self.changed / name).is_file()])
            kept.mkdir(parents=True)
            copy_over(self.changed, kept, [name for name in names if differs(self.clean / name, self.changed / name)])
        copy_over(kept, self.changed, [name for name in names if (kept / name).is_file()])

    def _key(self, mistake: Mistake) -> str:
        """Names what a build is made from."""
        digest = hashlib.sha256(mistake.isas.encode())
        folders = ("objc", "pyx", "shaders", "tools", "pipeline/include", "pipeline/metalc")
        paths = [path for folder in folders for path in (self.changed / folder).rglob("*") if path.is_file()]
        for path in sorted([*paths, self.changed / "setup.py"]):
            if path.suffix not in (".pyc", ".so"):
                digest.update(str(path.relative_to(self.changed)).encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]


def tracked_in(tree: Path) -> list[Path]:
    folders = [entry for entry in tree.iterdir() if entry.name not in ("build", ".pytest_cache")]
    paths = [path for folder in folders for path in ([folder] if folder.is_file() else folder.rglob("*"))]
    return [path.relative_to(tree) for path in paths if path.is_file() and path.suffix not in (".so", ".pyc")]


def environment(tree: Path, isas: str = ISAS) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree), "OB_ISAS": isas, "OB_CACHE": str(tree.parent / "cache")}


def build(tree: Path, isas: str = ISAS, quick: bool = False) -> None:
    how = ["-c", QUICK_BUILD] if quick else ["setup.py", "-q", "build_ext", "--inplace"]
    command = [sys.executable, *how]
    done = subprocess.run(
        command, cwd=tree, env=environment(tree, isas), timeout=BUILD_S, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise ListError("does not build: " + "\n".join(done.stdout.strip().splitlines()[-12:]))


def pytest(tree: Path, words: list[str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", *words]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment(tree) | {"COLUMNS": "1000"}, timeout=TEST_S, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "the tests did not end"
    return done.returncode, done.stdout


def words_of(tests: str) -> list[str]:
    import shlex

    return shlex.split(tests)


def apply(tree: Path, mistake: Mistake) -> None:
    path = tree / mistake.file
    if not path.is_file():
        raise ListError(f"{mistake.file}: no such file")
    text = path.read_text()
    if text.count(mistake.find) != 1:
        raise ListError(f"the text occurs {text.count(mistake.find)} times in {mistake.file}, not once")
    path.write_text(text.replace(mistake.find, mistake.replace))
    forget_bytecode(path)


def check(trees: Trees, mistake: Mistake) -> Result:
    """Whether the tests find the mistake."""
    result, start = Result("", "", 0, 0), time.monotonic()
    try:
        apply(trees.changed, mistake)
        if mistake.kind != "python" and not mistake.builds_tests:
            trees.build(mistake)
        result.build_s, start = time.monotonic() - start, time.monotonic()
        status, output = pytest(trees.changed, words_of(mistake.tests))
        result.test_s = time.monotonic() - start
        _judge(trees, status, output, result)
    except ListError as error:
        result.found = f"error: {error}"
    finally:
        trees.restore()
    return result


def _judge(trees: Trees, status: int, output: str, result: Result) -> None:
    if status == 0:
        result.found = "no"
        return
    if status == -1:  # the run hangs, which a person who runs the suite sees
        result.found, result.test = "yes", output
        return
    failed = FAILED.search(output)
    if status not in (1, 2) and status >= 0 or (status >= 0 and failed is None):
        raise ListError("pytest ended with " + str(status) + ": " + "\n".join(output.strip().splitlines()[-6:]))
    if status < 0:
        result.found, result.test = "yes", f"the process died of signal {-status}"
        return
    result.found, result.test = "yes", failed[1]
    again, _ = pytest(trees.clean, [failed[1]])
    if again != 0:
        raise ListError("the test fails on the unchanged tree, too")


COLUMNS = ("Mistake", "File", "What is wrong", "Found", "First failing test", "Seconds, build + tests")


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"


def row_of(mistake: Mistake, result: Result) -> str:
    test = f"`{result.test}`" if result.test else ""
    seconds = f"{result.build_s:.0f} + {result.test_s:.0f}"
    return row(mistake.name, f"`{mistake.file}`", mistake.wrong, result.found, test, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mistakes to check; without, all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append a row of a table to FILE for each mistake")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only mistakes of this kind")
    parser.add_argument("--source", type=Path, default=ROOT, metavar="FOLDER", help="the tree under test")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="a build folder to start from")
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "onebuf-seeded", metavar="FOLDER",
        help="where the copies of the tree are kept",
    )  # fmt: skip
    options = parser.parse_args()
    try:
        mistakes = read_list(LIST)
    except ListError as error:
        parser.error(str(error))
    unknown = set(options.names) - {mistake.name for mistake in mistakes}
    if unknown:
        parser.error(f"no mistake is called {', '.join(sorted(unknown))}; see {LIST}")
    by_name = {mistake.name: mistake for mistake in mistakes}
    wanted = [by_name[name] for name in options.names or by_name]
    wanted = [mistake for mistake in wanted if not options.kind or mistake.kind in options.kind]
    trees = Trees(options.source.resolve(), options.scratch, options.build or options.source / "build")
    trees.prepare()
    missed = 0
    print(row(*COLUMNS), row(*["---"] * len(COLUMNS)), sep="\n", flush=True)
    for mistake in wanted:
        result = check(trees, mistake)
        missed += result.found != "yes"
        line = row_of(mistake, result)
        print(line, flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(line + "\n")
    print(f"{len(wanted) - missed} of {len(wanted)} mistakes found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
