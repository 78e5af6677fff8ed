"""The arrows between modules, read from their source: no circle, no room above another, nothing imported late."""

import ast
import importlib
import pkgutil
from functools import cache
from pathlib import Path

import pipeline

PACKAGE = Path(pipeline.__file__).parent

# The rooms of the package from the lowest floor to the highest: a room may import what stands before it. Programs
# (pipeline/run.py and the like) stand above all rooms.
ROOMS = (
    "printing",
    "errors",
    "host",
    "isolated",  # starts a program of the package in an interpreter of its own
    "_lazy",
    "_start",
    "metalc",
    "strict",
    "device",
    "graph",  # graph/formats.py says what kernels read; checkpoints refuse everything else
    "checkpoints",
    "storyteller",  # one name of checkpoints, where programs of others look for it
    "models",
    "generation",
    "language",
    "ops",
    "cli",
    "serving",
    "ray",
    "converting",
    "inspecting",
    "checking",
    "benching",
)
PROGRAMS = ("__init__", "__main__", "commands", "run", "check", "convert", "inspect", "bench", "serve", "pytest_plugin")

# Imports within functions, and why they are there. They hide arrows, so there are few; each says its reason again where
# it stands. What else is heavy hangs below one of these: a mistake on the command line is reported before it is loaded.
COMMAND_LINE = "NumPy and the core, which a mistake on the command line need not wait for"
RICH = "rich, which only a terminal needs"
TESTS = "NumPy and the core, which tests without shaders need not wait for"
OPTIONAL = "a package that may not be there"
LATE = {
    ("run", "cli.running"): COMMAND_LINE,
    ("run", "cli.devices"): COMMAND_LINE,
    ("run", "ray.engine"): COMMAND_LINE,
    ("bench", "benching.running"): COMMAND_LINE,
    ("bench", "cli.devices"): COMMAND_LINE,
    ("check", "checking.checks"): COMMAND_LINE,
    ("convert", "converting.running"): COMMAND_LINE,
    ("inspect", "inspecting.running"): COMMAND_LINE,
    ("serve", "serving.running"): COMMAND_LINE,
    ("commands", "cli.version"): COMMAND_LINE,
    ("checking.options", "checking.buffers"): COMMAND_LINE,
    ("checking.options", "checking.expected"): COMMAND_LINE,
    ("checking.dispatches", "checking.buffers"): COMMAND_LINE,
    ("pytest_plugin", "checking.pytest_items"): TESTS,
    ("pytest_plugin", "checking.checkers"): TESTS,
    ("pytest_plugin", "checking.options"): TESTS,
    ("cli.console", "cli.live"): RICH,
    ("benching.report", "benching.terminal"): RICH,
    ("checking.report", "checking.terminal"): RICH,
    ("converting.progress", "converting.bar"): RICH,
    ("strict", "strict.checking"): OPTIONAL,
    ("strict.engine", "clang"): OPTIONAL,
    ("device.gpu_kernels", "metalc.nvrtc"): OPTIONAL,
    ("benching.llama_cpp", "llama_cpp"): OPTIONAL,
    ("benching.llama_cpp", "benching.gguf_file"): OPTIONAL,
    ("benching.torch_peer", "torch"): OPTIONAL,
    ("language.grammars", "llguidance"): OPTIONAL,
    ("ray.cluster", "ray"): OPTIONAL,
    ("checkpoints.hub", "huggingface_hub"): OPTIONAL,
    ("serving.app", "starlette"): OPTIONAL,
    ("serving.running", "starlette"): OPTIONAL,
    ("serving.running", "uvicorn"): OPTIONAL,
    ("benching.torch_peer", "transformers"): OPTIONAL,
}


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
    """The modules that one module imports; apart, those that only type checkers see."""

    def __init__(self, name: str) -> None:
        self.name, self.depth = name, 0
        self.found: set[str] = set()
        self.for_types: set[str] = set()
        self.typing = False
        self.late: set[str] = set()  # those within a function, other packages' too
        self.text = modules()[name].read_text().splitlines()
        self.visit(ast.parse("\n".join(self.text)))

    def visit_If(self, node):
        if ast.unparse(node.test) != "TYPE_CHECKING":
            return self.generic_visit(node)
        for self.typing, part in ((True, node.body), (False, node.orelse)):
            for each in part:
                self.visit(each)

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node):
        targets = resolve(self.name, node)
        (self.for_types if self.typing else self.found).update(targets)
        if self.depth:
            other = node.names[0].name if isinstance(node, ast.Import) else node.module
            self.late |= targets or {other.split(".")[0]}
            lines = self.text[node.lineno - 2 : node.end_lineno]
            assert any("#" in line for line in lines), f"{self.name}:{node.lineno}: say why this is imported late"

    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_FunctionDef


@cache
def imports(name: str) -> Imports:
    return Imports(name)


def room(name: str) -> str:
    return name.split(".")[0]


def test_there_are_arrows():
    arrows = {(name, target) for name in modules() for target in imports(name).found}
    assert len(arrows) > 300
    assert {("graph.builder", "graph.chain"), ("run", "cli.arguments"), ("ops.norms", "ops.call")} <= arrows
    assert {("models.loading", "graph.weights"), ("run", "cli.running")} <= arrows


def test_no_circle():
    """Imports within functions and for type checkers count, too: they hide a circle, they do not undo it."""
    done, path = set(), []

    def walk(name):
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for target in sorted(imports(name).found | imports(name).for_types):
            if target not in (name, "__init__"):  # the root loads its names when they are used
                walk(target)
        done.add(path.pop())

    for name in modules():
        walk(name)


def test_every_room_has_its_floor():
    assert {room(name) for name in modules()} - set(PROGRAMS) <= {*ROOMS, "data"}


def test_no_import_goes_up():
    """All offenders are listed at once."""

    def goes_up(name, target):
        return target != "__init__" and room(target) not in ROOMS[: ROOMS.index(room(name)) + 1]

    inner = [name for name in modules() if room(name) not in PROGRAMS]
    assert [f"{name} imports {to}" for name in inner for to in sorted(imports(name).found) if goes_up(name, to)] == []


def test_late_imports_have_a_reason():
    late = {(name, target) for name in modules() for target in imports(name).late}
    assert late == set(LATE)


def test_every_module_loads():
    for found in pkgutil.walk_packages([str(PACKAGE)], "pipeline."):
        if not found.name.endswith("__main__") and found.name != "pipeline._core":
            importlib.import_module(found.name)


# Packages that a machine which runs tests may lack: what needs one is skipped, and the rest of its file runs.
MAY_BE_ABSENT = {
    "gguf",
    "ml_dtypes",
    "mlx",
    "mlx_lm",
    "llama_cpp",
    "torch",
    "transformers",
    "clang",
    "starlette",
    "uvicorn",
    "openai",
    "llguidance",
    "ray",
    "jsonschema",
}
TREE = PACKAGE.parent


@cache
def at_once(path: Path) -> set[str]:
    """What a file imports when it is imported, as dotted names that may end in a name of the last module."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(path.relative_to(TREE).parent.parts)
            prefix = ".".join([*base[: len(base) - node.level + 1], *([node.module] if node.module else [])])
            found |= {f"{prefix if node.level else node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def reached(path: Path) -> frozenset[str]:
    """The packages that a file needs to be imported, through the files of this project."""
    waiting, seen, packages = [path], {path}, set()
    while waiting:
        for name in at_once(waiting.pop()):
            parts = name.split(".")
            if parts[0] not in ("pipeline", "support"):
                packages.add(parts[0])
                continue
            for end in range(1, len(parts) + 1):
                stem = (TREE if parts[0] == "pipeline" else TREE / "tests").joinpath(*parts[:end])
                files = {stem.with_suffix(".py"), stem / "__init__.py"} - seen
                waiting += [file for file in files if file.is_file()]
                seen |= files
    return frozenset(packages)


def test_test_files_are_collected_without_packages_that_may_be_absent():
    files = sorted((TREE / "tests").glob("*/test_*.py"))
    wanted = {str(file.relative_to(TREE)): reached(file) & MAY_BE_ABSENT for file in files}
    assert len(files) > 80 and {name: packages for name, packages in wanted.items() if packages} == {}
    assert "gguf" in reached(PACKAGE / "benching" / "gguf_file.py")  # it would be found
