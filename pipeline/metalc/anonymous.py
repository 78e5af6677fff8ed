"""Types with anonymous structs, which become templates: else C++ allows no half in them."""

from __future__ import annotations

from .edits import Edits

__all__ = ["AnonymousStructs"]


class AnonymousStructs:
    """Adds its changes to `edits`, whose tokens it reads."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._stream = edits.stream

    def edit(self, index: int, opener: int, stop: int) -> None:
        """Makes a template of the type at tokens[index:stop], whose body opens at `opener`, where that is needed."""
        close, found = self._stream.pairs[opener], False
        for position in range(opener + 1, close):
            if self._stream.text(position) == "struct" and self._stream.text(position + 1) == "{":
                end = self._stream.pairs[position + 1]
                if self._stream.text(end + 1) == ";":
                    found = True
                    self._dependent(position + 2, end)
        if not found:
            return
        typedef = self._stream.text(index) == "typedef"
        word = index + typedef  # struct or union
        tag = self._stream.tokens[opener - 1] if opener - 1 > word else None
        name = self._stream.text(close + 1) if typedef else tag.text if tag else ""
        if not name or name == ";":
            return
        self._edits.replace(
            index, index, f"template <typename metallib_T>{'' if typedef else ' ' + self._stream.text(index)}"
        )
        if tag:
            self._edits.replace(opener - 1, opener - 1, f"{name}_metallib_of")
        else:
            self._edits.insert(opener, f"{name}_metallib_of ")
        self._edits.replace(close + 1, stop - 1, f"; typedef {name}_metallib_of<void> {name};")

    def _dependent(self, index: int, end: int) -> None:
        """Makes the types of an anonymous struct's members depend on the template's parameter."""
        while index < end:
            stop = self._stream.extent(index, end)
            name = index
            while name < stop and self._stream.text(name) not in ("[", ",", ";", "=", "{"):
                name = self._stream.angle_end(name) + 1 if self._stream.text(name) == "<" else name + 1
            if name - 1 > index and self._stream.text(index) not in ("struct", "class", "union", "enum"):
                self._edits.insert(index, "typename metal::metal_detail::dependent<metallib_T, ")
                self._edits.insert(name - 1, ">::type ")
            index = stop
