"""Rules about the syntax tree: pointers without an address space, recursion, state of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from clang.cindex import CursorKind, StorageClass, TypeKind, conf

from .diagnostic import ReportPlace
from .engine import NAME, TranslationUnit
from .lower import Lowered

__all__ = ["check"]

Cursor: TypeAlias = Any  # clang.cindex has no types
Type: TypeAlias = Any
_Sizes: TypeAlias = dict[int, int] | None  # bytes of threadgroup variables in the kernel around, by their offset

_POINTERS = (TypeKind.POINTER, TypeKind.LVALUEREFERENCE, TypeKind.RVALUEREFERENCE)
_ARRAYS = (TypeKind.CONSTANTARRAY, TypeKind.INCOMPLETEARRAY, TypeKind.VARIABLEARRAY, TypeKind.DEPENDENTSIZEDARRAY)
_FUNCTIONS = (
    CursorKind.FUNCTION_DECL,
    CursorKind.CXX_METHOD,
    CursorKind.FUNCTION_TEMPLATE,
    CursorKind.CONSTRUCTOR,
    CursorKind.CONVERSION_FUNCTION,
    CursorKind.DESTRUCTOR,
)
_CASTS = (
    CursorKind.CSTYLE_CAST_EXPR,
    CursorKind.CXX_STATIC_CAST_EXPR,
    CursorKind.CXX_REINTERPRET_CAST_EXPR,
    CursorKind.CXX_CONST_CAST_EXPR,
    CursorKind.CXX_FUNCTIONAL_CAST_EXPR,
)
_DECLARATIONS = {
    CursorKind.PARM_DECL: "parameter",
    CursorKind.VAR_DECL: "variable",
    CursorKind.FIELD_DECL: "member",
    CursorKind.TYPEDEF_DECL: "type",
    CursorKind.TYPE_ALIAS_DECL: "type",
}
_SCOPES = (
    CursorKind.TRANSLATION_UNIT,
    CursorKind.NAMESPACE,
    CursorKind.STRUCT_DECL,
    CursorKind.CLASS_DECL,
    CursorKind.CLASS_TEMPLATE,
    CursorKind.UNION_DECL,
    CursorKind.CLASS_TEMPLATE_PARTIAL_SPECIALIZATION,
)
SPACE_FIX = "write device, constant, threadgroup or thread before its type"
MEMORY = 32768


def check(unit: TranslationUnit, lowered: Lowered, kernels: set[str], report: ReportPlace) -> None:
    """Reports each place of the lowered text that Metal refuses. kernels: their C++ names."""
    _Walk(unit, lowered, kernels, report).run()


class _Walk:
    """One walk over the tree."""

    def __init__(self, unit: TranslationUnit, lowered: Lowered, kernels: set[str], report: ReportPlace) -> None:
        self.unit, self.kernels, self.report = unit, kernels, report
        self.temporaries = lowered.temporaries
        self.variables = {variable.name.text for variable in lowered.variables}
        self.calls: dict[str, dict[str, tuple[int, int]]] = {}
        self.names: dict[str, str] = {}

    def run(self) -> None:
        """Visits the shader's own part of the tree, then looks for recursion in the calls that it found."""
        tops = list(self.unit.cursor.get_children())
        self.unspaced = self._sentinels(tops)
        for cursor in tops:
            place = cursor.location
            if place.file and place.file.name == NAME:
                self._visit(cursor, None, None)
        self._recursion()

    def _sentinels(self, tops: Sequence[Cursor]) -> int:
        """The number of the address space that Clang gives to a pointer without one."""
        for cursor in tops:
            if cursor.kind == CursorKind.NAMESPACE and cursor.spelling == "strict":
                for child in cursor.get_children():
                    if child.spelling == "in_no_space":
                        return int(child.underlying_typedef_type.get_address_space())
        return -1

    def _fail(self, cursor: Cursor, rule: str, message: str, fix: str) -> None:
        self.report(cursor.location.line, cursor.location.column, rule, message, fix)

    # -- walking -----------------------------------------------------------------------------------

    def _visit(self, cursor: Cursor, function: Cursor | None, sizes: _Sizes) -> None:
        kind = cursor.kind
        if kind in _DECLARATIONS:
            self._declaration(cursor, sizes)
        elif kind in _FUNCTIONS:
            function, sizes = cursor, {}
            self._function(cursor)
        elif kind in _CASTS:
            self._spaces(cursor, cursor.type, "cast")
        elif kind == CursorKind.CALL_EXPR and function is not None:
            self._call(cursor, function)
        for child in cursor.get_children():
            self._visit(child, function, sizes)
        if kind in _FUNCTIONS and sizes and sum(sizes.values()) > MEMORY:
            self._fail(
                cursor,
                "threadgroup-memory",
                f"kernel '{cursor.spelling}' has {sum(sizes.values()):,} bytes of threadgroup memory; "
                f"{MEMORY:,} is the most",
                "make its threadgroup arrays smaller",
            )

    def _function(self, cursor: Cursor) -> None:
        if cursor.kind in (CursorKind.CONSTRUCTOR, CursorKind.DESTRUCTOR):
            return
        self._spaces(cursor, cursor.result_type, "result of")
        if cursor.spelling == "main":
            self._fail(cursor, "reserved-name", "a function cannot be named main", "rename it")

    def _declaration(self, cursor: Cursor, sizes: _Sizes) -> None:
        kind = cursor.kind
        if kind == CursorKind.VAR_DECL:
            self._variable(cursor, sizes)
        what = _DECLARATIONS[kind]
        spelled = cursor.underlying_typedef_type if what == "type" else cursor.type
        self._spaces(cursor, spelled, what)

    def _variable(self, cursor: Cursor, sizes: _Sizes) -> None:
        declared = cursor.type
        if cursor.spelling in self.variables and declared.kind == TypeKind.LVALUEREFERENCE:
            size = declared.get_pointee().get_size()
            if sizes is not None and size > 0:
                sizes[cursor.location.offset] = size
            return
        parent = cursor.semantic_parent
        program = parent is not None and parent.kind in _SCOPES
        if not program and cursor.storage_class != StorageClass.STATIC:
            return
        if "__constant" in _element(declared).get_canonical().spelling or "__constant" in _element(declared).spelling:
            return
        if _element(declared).get_canonical().spelling.endswith("metal::sampler"):
            return  # a constexpr sampler has no memory
        self._fail(
            cursor,
            "global-state",
            f"variable '{cursor.spelling}' lives as long as the program, but is not in constant memory",
            "declare it constant, or pass it as an argument",
        )

    # -- address spaces ----------------------------------------------------------------------------

    def _spaces(self, cursor: Cursor, declared: Type, what: str) -> None:
        if _points_to_function(declared):
            if what in ("parameter", "variable", "member"):
                self._fail(
                    cursor,
                    "function-pointer",
                    f"{what} '{cursor.spelling}' points to a function",
                    "use a template parameter or a switch",
                )
            return
        kind = self._lacking(declared)
        if kind is None:
            return
        if kind == "reference" and self.temporaries.intersection(
            range(cursor.extent.start.line, cursor.location.line + 1)
        ):
            return
        name = f" '{cursor.spelling}'" if cursor.spelling else ""
        if what == "cast":
            self._fail(cursor, "no-address-space", f"cast to a {kind} without an address space", SPACE_FIX)
        else:
            self._fail(cursor, "no-address-space", f"{what}{name} is a {kind} without an address space", SPACE_FIX)

    def _lacking(self, declared: Type) -> str | None:
        """Whether a pointer or a reference in a type, as it is written, has no address space, and which of the two."""
        declared = _element(declared)
        if declared.kind not in _POINTERS:
            return None
        pointee = declared.get_pointee()
        if pointee.kind == TypeKind.AUTO or _element(pointee).kind == TypeKind.AUTO:
            return None
        inner = _element(pointee)
        kind = "pointer" if declared.kind == TypeKind.POINTER else "reference"
        # Clang leaves the space open where a type depends on a template's parameter.
        forwards = declared.kind == TypeKind.RVALUEREFERENCE
        if kind == "reference" and inner.kind == TypeKind.POINTER:
            return self._lacking(inner)  # device float *&p is in use
        if inner.get_address_space() in ((self.unspaced,) if forwards else (self.unspaced, 0)):
            return kind
        return self._lacking(inner)

    # -- calls -------------------------------------------------------------------------------------

    def _call(self, cursor: Cursor, function: Cursor) -> None:
        for target in self._targets(cursor):
            if target.kind not in _FUNCTIONS or not target.location.file or target.location.file.name != NAME:
                continue
            name, line = target.spelling, cursor.location
            if name in self.kernels and target.kind in (CursorKind.FUNCTION_DECL, CursorKind.FUNCTION_TEMPLATE):
                self._fail(
                    cursor,
                    "kernel-call",
                    f"'{name}' is a kernel and cannot be called",
                    "call a function that both share",
                )
            caller, callee = _key(function), _key(target)
            self.names[callee] = name
            self.names[caller] = function.spelling
            self.calls.setdefault(caller, {}).setdefault(callee, (line.line, line.column))

    def _targets(self, cursor: Cursor) -> list[Cursor]:
        """The functions that a call may reach."""
        if cursor.referenced is not None:
            target = cursor.referenced
            original = conf.lib.clang_getSpecializedCursorTemplate(target)
            return [original if original is not None and original.kind != CursorKind.INVALID_FILE else target]
        for child in cursor.get_children():
            found = [c for c in child.walk_preorder() if c.kind == CursorKind.OVERLOADED_DECL_REF]
            if not found or any(c.kind == CursorKind.TEMPLATE_REF for c in child.walk_preorder()):
                return []
            if "<" in "".join(token.spelling for token in child.get_tokens()):
                return []  # another instantiation
            count = conf.lib.clang_getNumOverloadedDecls(found[0])
            return [conf.lib.clang_getOverloadedDecl(found[0], 0)] if count == 1 else []
        return []

    def _recursion(self) -> None:
        reported: set[str] = set()
        for start in self.calls:
            path = self._cycle(start)
            if path and not reported & set(path):
                reported |= set(path)
                line, column = self.calls[start][path[0] if len(path) == 1 else path[1]]
                chain = " → ".join(self.names[key] for key in (*path, start) if key)
                message = f"'{self.names[start]}' calls itself" + (f" ({chain})" if len(path) > 1 else "")
                self.report(line, column, "recursion", message, "use a loop")

    def _cycle(self, start: str) -> list[str]:
        """The functions on a way from start back to start; empty where there is none."""
        if start in self.calls[start]:
            return [start]
        stack: list[tuple[str, list[str]]] = [(start, [start])]
        seen: set[str] = set()
        while stack:
            key, path = stack.pop()
            for callee in self.calls.get(key, ()):
                if callee == start:
                    return path
                if callee not in seen:
                    seen.add(callee)
                    stack.append((callee, [*path, callee]))
        return []


def _key(cursor: Cursor) -> str:
    return str(cursor.canonical.get_usr())


def _points_to_function(declared: Type) -> bool:
    declared = _element(declared).get_canonical()
    if declared.kind not in _POINTERS:
        return False
    return declared.get_pointee().get_canonical().kind in (TypeKind.FUNCTIONPROTO, TypeKind.FUNCTIONNOPROTO)


def _element(declared: Type) -> Type:
    while declared.kind in _ARRAYS:
        declared = declared.element_type
    return declared
