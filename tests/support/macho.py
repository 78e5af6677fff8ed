"""A 64-bit Mach-O file as far as tests look into it: what it is, what it needs, what it gives."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

MAGIC, ARM64, OBJECT, DYLIB, BUNDLE = 0xFEEDFACF, 0x0100000C, 1, 6, 8
_SYMTAB, _LOAD_DYLIB, _BUILD_VERSION, _CODE_SIGNATURE = 0x2, 0xC, 0x32, 0x1D
_UNDEFINED, _EXTERNAL, _PRIVATE, _TYPE = 0x0, 0x01, 0x10, 0x0E
ANY_IMAGE = "any image"  # of a symbol that is looked up among all that is loaded, as Python's are


@dataclass
class MachO:
    processor: int
    kind: int
    libraries: list[str] = field(default_factory=list)  # names as the load commands have them
    minimum: tuple[int, int] = (0, 0)  # of macOS
    signed: bool = False
    undefined: dict[str, str] = field(default_factory=dict)  # symbol: the library that has it
    exported: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)  # these, and what only the file it is linked into sees

    @property
    def names(self) -> list[str]:
        """The libraries' file names."""
        return [library.rpartition("/")[2] for library in self.libraries]


def read(path: Path | str) -> MachO:
    """Raises ValueError for another kind of file."""
    data = Path(path).read_bytes()
    magic, processor, _, kind, count, _, _, _ = struct.unpack_from("<8I", data)
    if magic != MAGIC:
        raise ValueError(f"{path}: no 64-bit Mach-O file")
    found = MachO(processor, kind)
    at, symbols = 32, None
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, at)
        if command & 0x7FFFFFFF in (_LOAD_DYLIB, 0x18, 0x1F):  # plainly, weakly, re-exported
            (offset,) = struct.unpack_from("<I", data, at + 8)
            found.libraries.append(data[at + offset : at + size].split(b"\0")[0].decode())
        elif command == _BUILD_VERSION:
            (version,) = struct.unpack_from("<I", data, at + 12)
            found.minimum = version >> 16, version >> 8 & 0xFF
        elif command == _SYMTAB:
            symbols = struct.unpack_from("<4I", data, at + 8)
        elif command == _CODE_SIGNATURE:
            found.signed = True
        at += size
    if symbols:
        _read_symbols(found, data, *symbols)
    return found


def _read_symbols(found: MachO, data: bytes, offset: int, count: int, text: int, length: int) -> None:
    names = data[text : text + length]
    for index in range(count):
        start, kind, _, description, value = struct.unpack_from("<IBBHQ", data, offset + 16 * index)
        name = names[start : names.index(b"\0", start)].decode()
        if kind & 0xE0 or not kind & _EXTERNAL:  # of a debugger, or the file's own
            continue
        if kind & _TYPE == _UNDEFINED and value == 0:
            ordinal = description >> 8
            known = 0 < ordinal <= len(found.libraries)
            found.undefined[name] = found.libraries[ordinal - 1] if known else ANY_IMAGE
        elif kind & _TYPE != _UNDEFINED:
            found.defined.add(name)
            if not kind & _PRIVATE:
                found.exported.add(name)
