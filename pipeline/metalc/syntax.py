"""The syntax that the parser finds in a shader: kernels, parameters, structs, function constants."""

import re
from dataclasses import dataclass, field

__all__ = ["Attribute", "FunctionConstant", "KernelDeclaration", "Parameter", "Shader", "Struct"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """[[name(argument)]] at its place."""

    name: str
    argument: str | None
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a kernel."""

    name: str
    type_text: str  # the declaration without name and attributes
    attributes: tuple[Attribute, ...]
    file: str
    line: int

    @property
    def words(self) -> list[str]:
        return self.type_text.split()


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct, its plain public data members, and the words of their types, those of structs within it too.

    ids      what [[id(n)]] says of each member; None where it has none
    encoded  whether a host sets it as an argument buffer: a member points to memory, or has an id
    """

    name: str
    scope: tuple[str, ...]
    fields: tuple[str, ...]
    types: frozenset[str] = frozenset()
    ids: tuple[int | None, ...] = ()
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class KernelDeclaration:
    """A kernel definition, a kernel template, or an explicit instantiation of one."""

    name: str  # as written before the parameter list, template arguments included
    scope: tuple[str, ...]
    template: str  # the words template < ... >, empty where there are none
    instantiation: bool
    result: str
    parameters: tuple[Parameter, ...] | None  # None: decltype(f<...>) f<...>
    attributes: tuple[Attribute, ...]
    threadgroup_arrays: tuple[str, ...]
    file: str
    line: int

    @property
    def base_name(self) -> str:
        return self.name.split("<", 1)[0].strip()

    @property
    def host_name(self) -> str | None:
        for attribute in self.attributes:
            if attribute.name == "host_name" and attribute.argument:
                return "".join(re.findall(r'"([^"]*)"', attribute.argument))  # adjacent literals are one
        return None


@dataclass(frozen=True, slots=True)
class FunctionConstant:
    """A constant whose value is given when a function is made, or (derived) is computed from such."""

    name: str
    scope: tuple[str, ...]
    index: int | None
    derived: bool
    file: str
    line: int


@dataclass(slots=True)
class Shader:
    """One parsed .metal file. `text` is the preprocessed text, ready to be compiled as C++."""

    file: str
    text: str
    kernels: list[KernelDeclaration] = field(default_factory=list)
    structs: dict[tuple[str, ...], Struct] = field(default_factory=dict)
    enumerators: dict[str, int] = field(default_factory=dict)
    function_constants: list[FunctionConstant] = field(default_factory=list)
    constants_of: dict[str, frozenset[str]] = field(default_factory=dict)  # by a kernel's C++ name
    optional_constants: frozenset[str] = frozenset()  # those that is_function_constant_defined asks for
