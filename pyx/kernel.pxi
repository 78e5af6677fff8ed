# Kernels: what a signature says of its arguments, and packing struct arguments by it.


cdef class Argument:
    """What a kernel's signature says of one argument.

    name; index of [[buffer(n)]] or [[threadgroup(n)]]; threadgroup; writes; size and alignment of
    an element in bytes; members, as {name: (offset, MTLDataType)} for a struct; counts, as {name: elements} of the
    members that are arrays; pointers, as {name: (writes, size of an element)} of those that point to memory.
    """
    cdef readonly str name
    cdef readonly int index
    cdef readonly bint threadgroup
    cdef readonly bint writes
    cdef readonly int size
    cdef readonly int alignment
    cdef readonly dict members
    cdef readonly dict counts
    cdef readonly dict pointers

    def __repr__(self):
        access = "threadgroup" if self.threadgroup else "writes" if self.writes else "reads"
        return f"Argument({self.name!r}, index={self.index}, {access}, size={self.size})"


cdef class Kernel(Handle):
    """A kernel ready to dispatch."""
    cdef readonly str name
    cdef readonly tuple arguments

    cdef reflect(self):
        cdef ob_kernel *kernel = <ob_kernel *>self.enter()
        cdef ob_argument info
        cdef ob_member member
        cdef Argument argument
        cdef ob_error error
        found = []
        try:
            for i in range(ob_kernel_arguments(kernel)):
                if ob_kernel_argument(kernel, i, &info, &error) != 0:
                    _raise(&error)
                argument = Argument.__new__(Argument)
                argument.name = info.name.decode("utf-8", "replace")
                argument.index = info.index
                argument.threadgroup = info.threadgroup
                argument.writes = info.writes
                argument.size = info.size
                argument.alignment = info.alignment
                argument.members, argument.counts, argument.pointers = {}, {}, {}
                for j in range(info.members):
                    if ob_kernel_member(kernel, i, j, &member, &error) != 0:
                        _raise(&error)
                    label = member.name.decode("utf-8", "replace")
                    argument.members[label] = (member.offset, member.type)
                    if member.count > 1:
                        argument.counts[label] = member.count
                    if member.size > 0:
                        argument.pointers[label] = (bool(member.writes), member.size)
                found.append(argument)
        finally:
            self.leave()
        self.arguments = tuple(found)

    @property
    def threads(self):
        """Threads of the largest threadgroup."""
        cdef uint32_t threads = ob_kernel_threads(<ob_kernel *>self.enter())
        self.leave()
        return threads

    @property
    def width(self):
        """Threads of a simdgroup."""
        cdef uint32_t width = ob_kernel_width(<ob_kernel *>self.enter())
        self.leave()
        return width

    @property
    def native(self):
        """Whether code that was written by hand for the processor runs instead of the shader."""
        cdef int native = ob_kernel_native(<ob_kernel *>self.enter())
        self.leave()
        return bool(native)

    def argument(self, str name):
        """The argument called `name`, or None."""
        for argument in self.arguments:
            if argument.name == name:
                return argument
        return None

    def pack(self, str name, values):
        """Bytes of the struct argument `name` with every member set from the mapping `values`: a number, or a list of
        numbers for a vector or an array. A pointer is a number, Buffer.address or 0."""
        argument = self.argument(name)
        if argument is None or not argument.members:
            raise _errors.BuildError(f"kernel {self.name}: no struct argument called {name}")
        if set(values) != set(argument.members):
            raise _errors.BuildError(f"kernel {self.name}: {name} has the members "
                                     f"{', '.join(argument.members)}, got {', '.join(values)}")
        packed = bytearray(argument.size)
        for member, (offset, code) in argument.members.items():
            self._pack_member(packed, f"{name}.{member}", offset, code, argument.counts.get(member, 1), values[member])
        return bytes(packed)

    def _pack_member(self, packed, str label, offset, code, count, value):
        """One member: a scalar, a vector, or an array of either."""
        scalar = max((known for known in (*_FORMATS, 121) if known <= code), default=0)
        lanes = code - scalar + 1
        if scalar == 0 or lanes > 4 or (count > 1 and lanes == 3):
            raise _errors.BuildError(f"kernel {self.name}: {label} is not a scalar, a vector, or an array of them")
        several = count * lanes > 1
        if several and (not isinstance(value, (list, tuple)) or len(value) != count * lanes):
            raise _errors.BuildError(f"kernel {self.name}: {label} takes a list of {count * lanes} values")
        try:
            given = value if several else (value,)
            if scalar == 121:
                given = [_bfloat(each) for each in given]
            _struct.pack_into(f"<{count * lanes}{_FORMATS.get(scalar, 'H')}", packed, offset, *given)
        except (_struct.error, TypeError, OverflowError, ValueError):
            raise _errors.BuildError(f"kernel {self.name}: {label}{_misfit(scalar, value)}") from None


def _misfit(scalar, value):
    """What is wrong with a value, or with one of several, for a scalar type: the end of a line that names its place."""
    kind = _NAMES[scalar]
    for each in value if isinstance(value, (list, tuple)) else (value,):
        shown = " ".join(repr(each).split())
        try:
            number = float(each)
        except (TypeError, ValueError, OverflowError):
            number = float("inf") if isinstance(each, int) else None
        if number is None or isinstance(each, str):
            return f" takes a number, not {shown}"
        if kind in _LARGEST:
            if abs(number) > _LARGEST[kind]:
                return f" = {shown} does not fit {kind}, whose largest number is {_LARGEST[kind]:g}"
            continue
        if not hasattr(each, "__index__"):
            return f" takes a whole number, not {shown}"
        bits = 8 * _struct.calcsize("<" + _FORMATS[scalar])
        least = 0 if _FORMATS[scalar].isupper() else -(1 << bits - 1)
        most = least + (1 << bits) - 1
        if not least <= each <= most:
            return f" = {shown} does not fit {kind}, which holds {least} to {most}"
    return f" takes one number, not {' '.join(repr(value).split())}"


def _bfloat(value):
    """The upper half of a float's bits, rounded to even."""
    word = _struct.unpack("<I", _struct.pack("<f", value))[0]
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16 & 0xFFFF
