"""The arrows between modules, read from their source: no circle, no room above another, nothing imported late."""

import ast
import importlib
import pkgutil
from functools import cache
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).parent

# The rooms of the package from the lowest floor to the highest: a room may import what stands before it. Programs
# (pipeline/run.py and the like) stand above all rooms.
ROOMS = (
    "errors",
    "_lazy",
    "metalc",
    "strict",
    "device",
    "checkpoints",
    "graph",
    "models",
    "generation",
    "ops",
    "cli",
    "converting",
    "inspecting",
    "checking",
    "benching",
)
PROGRAMS = ("__init__", "__main__", "run", "check", "convert", "inspect", "bench")

# Modules that import within functions, and why. Rooms that are loaded on the way to an error, or for one option of
# many, keep what is heavy or optional out of the way of the others.
HEAVY = "NumPy, the core or rich take a tenth of a second, which errors and --help do not need"
OPTIONAL = "a package that may not be there; its absence is a message or a plainer display"
PLATFORM = "a module that some systems do not have"
LATE = {
    "bench": HEAVY,
    "check": HEAVY,
    "convert": HEAVY,
    "inspect": HEAVY,
    "run": HEAVY,
    "benching.bandwidth": HEAVY,
    "benching.gguf_file": OPTIONAL,
    "benching.peer": OPTIONAL,
    "benching.report": HEAVY,
    "benching.steps": HEAVY,
    "benching.weights": HEAVY,
    "benching.workloads": HEAVY,
    "checking.report": HEAVY,
    "checkpoints.checkpoint": HEAVY,
    "checkpoints.gguf.tokenizer": OPTIONAL,
    "checkpoints.tokenizer": OPTIONAL,
    "cli.console": HEAVY,
    "cli.summary": PLATFORM,
    "converting.display": HEAVY,
    "converting.journal": PLATFORM,
    "strict": OPTIONAL,
    "strict.engine": OPTIONAL,
}
STRICT_ROOMS = ("errors", "device", "graph", "models", "generation", "ops")  # in which nothing is imported late


@cache
def modules() -> dict[str, Path]:
    """Every module by its name within the package; a package by its folder's name, the root as "__init__"."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def resolve(name: str, node: ast.Import | ast.ImportFrom) -> set[str]:
    """The modules of the package that one import statement of the module `name` reaches."""
    path = modules()[name]
    if isinstance(node, ast.Import):
        targets = [alias.name for alias in node.names]
    else:
        package = list(path.relative_to(PACKAGE.parent).parent.parts)
        base = package[: len(package) - node.level + 1] if node.level else []
        prefix = ".".join([*base, *([node.module] if node.module else [])])
        targets = [f"{prefix}.{alias.name}" for alias in node.names]
    found = set()
    for target in targets:
        if target != "pipeline" and not target.startswith("pipeline."):
            continue
        parts = target.split(".")[1:]
        while parts and ".".join(parts) not in modules():
            parts.pop()  # a name of a module
        found.add(".".join(parts) or "__init__")
    return found


class Imports(ast.NodeVisitor):
    """The imports of one module: (module, whether it is within a function); without those for type checkers."""

    def __init__(self, name: str) -> None:
        self.name, self.depth = name, 0
        self.found: set[tuple[str, bool]] = set()
        self.late: list[int] = []  # lines
        self.visit(ast.parse(modules()[name].read_text()))

    def visit_If(self, node):
        if ast.unparse(node.test) != "TYPE_CHECKING":
            return self.generic_visit(node)
        for each in node.orelse:
            self.visit(each)

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node):
        self.found |= {(target, self.depth > 0) for target in resolve(self.name, node)}
        self.late += [node.lineno] * bool(self.depth)

    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_FunctionDef


@cache
def imports(name: str) -> Imports:
    return Imports(name)


def room(name: str) -> str:
    return name.split(".")[0]


def test_there_are_arrows():
    arrows = {(name, target) for name in modules() for target, _ in imports(name).found}
    assert len(arrows) > 300
    assert {("graph.builder", "graph.chain"), ("run", "cli.arguments"), ("device.core", "__init__")} & arrows
    assert ("models.loading", "graph.weights") in arrows and ("run", "generation") in arrows


def test_no_circle():
    """Imports within functions count too: they hide a circle, they do not undo it."""
    done, path = set(), []

    def walk(name):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for target, _ in sorted(imports(name).found):
            if target not in (name, "__init__"):  # the root loads its names when they are used
                walk(target)
        done.add(path.pop())

    for name in modules():
        walk(name)


def test_every_room_has_its_floor():
    assert {room(name) for name in modules()} - set(PROGRAMS) <= {*ROOMS, "data"}


@pytest.mark.parametrize("name", modules())
def test_no_import_goes_up(name):
    if room(name) in PROGRAMS:
        return
    floor = ROOMS.index(room(name))
    for target, _ in imports(name).found:
        assert target == "__init__" or room(target) in ROOMS[: floor + 1], f"{name} imports {target}"


def test_late_imports_have_a_reason():
    late = {name: imports(name).late for name in modules() if imports(name).late}
    unknown = {name: lines for name, lines in late.items() if name not in LATE}
    assert not unknown, f"import at the top of the file, or say why not: {unknown}"
    assert not set(LATE) - set(late), "these import nothing late any more"
    assert not [name for name in late if room(name) in STRICT_ROOMS]


def test_every_module_loads():
    for found in pkgutil.walk_packages([str(PACKAGE)], "pipeline."):
        if not found.name.endswith("__main__") and found.name != "pipeline._core":
            importlib.import_module(found.name)
