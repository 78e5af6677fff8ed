"""pipeline/_core.pyi, which type checkers read, is true of the compiled core: names, parameters, defaults."""

import ast
import inspect
from pathlib import Path

import pytest

import pipeline
from pipeline import _core

STUB = ast.parse((Path(pipeline.__file__).parent / "_core.pyi").read_text())
TYPES = {"DataType", "Size", "Binding", "Transfer", "Access"}  # names of types, which exist for type checkers alone
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
SPECIAL = {"__enter__", "__exit__", "__len__", "__init__", "__buffer__"}


def public(names):
    return {name for name in names if not name.startswith("_") or name in SPECIAL}


def members(node: ast.ClassDef) -> set[str]:
    found = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    return public(found | {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)})


def parameters(node: ast.FunctionDef) -> list[tuple[str, bool, object]]:
    """(name, whether by keyword only, the default's text) of a stub's function."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    found = [(each.arg, False, default) for each, default in zip(plain, defaults)]
    found += [(each.arg, True, default) for each, default in zip(args.kwonlyargs, args.kw_defaults)]
    return [(name, only, None if default is None else ast.unparse(default)) for name, only, default in found]


def actual(function) -> list[tuple[str, bool, object]]:
    return [
        (each.name, each.kind is each.KEYWORD_ONLY, None if each.default is each.empty else repr(each.default))
        for each in inspect.signature(function).parameters.values()
    ]


def test_names():
    stated = {node.name for node in STUB.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    stated |= {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign)}
    assert stated - TYPES == public(vars(_core)) - {"annotations"}


@pytest.mark.parametrize("name", CLASSES)
def test_members_of_a_class(name):
    cls, node = getattr(_core, name), CLASSES[name]
    bases = [base.id for base in node.bases]
    assert bases == ([] if cls.__base__ is object else [cls.__base__.__name__])
    inherited = members(CLASSES[bases[0]]) if bases else set()
    made = public(vars(cls)) - (set() if name == "Dispatch" else {"__init__"})
    assert members(node) - {"__buffer__"} | inherited == made - {"__buffer__"} | inherited


FUNCTIONS = [(None, node) for node in STUB.body if isinstance(node, ast.FunctionDef)] + [
    (name, each)
    for name, node in CLASSES.items()
    for each in node.body
    if isinstance(each, ast.FunctionDef) and not each.decorator_list and not each.name.startswith("__")
]


def test_parameters():
    def compiled(owner, name):
        return actual(getattr(getattr(_core, owner) if owner else _core, name))

    stated = {(owner, node.name): parameters(node) for owner, node in FUNCTIONS}
    assert len(stated) > 10 and {each: compiled(*each) for each in stated} == stated


def test_the_constructor_that_there_is():
    (init,) = (each for each in CLASSES["Dispatch"].body if getattr(each, "name", "") == "__init__")
    assert parameters(init)[1:] == actual(_core.Dispatch)
