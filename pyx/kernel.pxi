# Kernels: what a signature says of its arguments, and packing struct arguments by it.


cdef class Argument:
    """What a kernel's signature says of one argument.

    name; index of [[buffer(n)]] or [[threadgroup(n)]]; threadgroup; writes; size and alignment of
    an element in bytes; members, as {name: (offset, MTLDataType)} for a struct.
    """
    cdef readonly str name
    cdef readonly int index
    cdef readonly bint threadgroup
    cdef readonly bint writes
    cdef readonly int size
    cdef readonly int alignment
    cdef readonly dict members

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
                argument.members = {}
                for j in range(info.members):
                    if ob_kernel_member(kernel, i, j, &member, &error) != 0:
                        _raise(&error)
                    argument.members[member.name.decode("utf-8", "replace")] = (member.offset, member.type)
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
        """Bytes of the struct argument `name` with every member set from the mapping `values`."""
        argument = self.argument(name)
        if argument is None or not argument.members:
            raise _errors.BuildError(f"kernel {self.name}: no struct argument called {name}")
        if set(values) != set(argument.members):
            raise _errors.BuildError(f"kernel {self.name}: {name} has the members "
                                     f"{', '.join(argument.members)}, got {', '.join(values)}")
        packed = bytearray(argument.size)
        for member, (offset, code) in argument.members.items():
            if code not in _FORMATS:
                raise _errors.BuildError(f"kernel {self.name}: {name}.{member} is not a scalar")
            try:
                _struct.pack_into("<" + _FORMATS[code], packed, offset, values[member])
            except _struct.error as error:
                raise _errors.BuildError(f"kernel {self.name}: {name}.{member} = "
                                         f"{values[member]!r} does not fit: {error}") from None
        return bytes(packed)
