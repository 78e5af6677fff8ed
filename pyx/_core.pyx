# cython: language_level=3, binding=True, embedsignature=True
"""Handles on the Objective-C core: device, library, kernel, buffer, chain, run.

A handle comes from :func:`open_device` or from another handle, never from its class; after
``close()`` every use raises :class:`~pipeline.errors.ClosedError`. The GIL is released while the
core compiles, commits and waits. Handles may be shared by threads.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

from onebuf cimport *

import mmap as _mmap
import os as _os
import struct as _struct

from pipeline import errors as _errors

PAGE_SIZE = _mmap.PAGESIZE

# Sizes that the shaders share with whoever computes grids (shaders/args.h).
LINEAR_OUTPUTS = OB_LINEAR_OUTPUTS
LINEAR_ROWS = OB_LINEAR_ROWS
ROPE_HEADS = OB_ROPE_HEADS
MAX_TOP_K = OB_MAX_TOP_K
NONE = <uint32_t>OB_NONE

# struct-module formats of the scalar MTLDataTypes that a struct argument may have.
cdef dict _FORMATS = {3: "f", 16: "e", 29: "i", 33: "I", 37: "h", 41: "H", 45: "b", 49: "B", 53: "?",
                      81: "q", 85: "Q"}

cdef dict _EXCEPTIONS = {OB_DEVICE: _errors.DeviceError, OB_COMPILE: _errors.CompileError,
                         OB_ARGUMENT: _errors.BuildError, OB_MEMORY: _errors.DeviceError,
                         OB_RUN: _errors.RunError}


cdef object _raise(ob_error *error):
    raise _EXCEPTIONS.get(error.code, _errors.DeviceError)(error.message.decode("utf-8", "replace"))


cdef class Handle:
    """One object of the core. Closing waits for nothing: what is in use goes when its use ends."""
    cdef void *pointer
    cdef int users
    cdef bint closing

    def __init__(self):
        raise TypeError(f"{type(self).__name__} cannot be made directly; use pipeline.open_device()")

    def __dealloc__(self):
        if self.pointer != NULL:
            ob_release(self.pointer)

    cdef void *enter(self) except NULL:
        if self.pointer == NULL or self.closing:
            raise _errors.ClosedError(f"this {type(self).__name__} is closed")
        self.users += 1
        return self.pointer

    cdef void leave(self) noexcept:
        self.users -= 1
        if self.users == 0 and self.closing:
            ob_release(self.pointer)
            self.pointer = NULL

    def close(self):
        """Give the object back. A second call does nothing."""
        if self.pointer == NULL or self.closing:
            return
        self.closing = True
        self.users += 1
        self.leave()

    @property
    def closed(self):
        return self.pointer == NULL or self.closing

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.close()


cdef _own(type cls, void *pointer):
    cdef Handle handle = cls.__new__(cls)
    handle.pointer = pointer
    return handle


def open_device(str name="auto", *, int threads=0):
    """The device called `name`; "auto" is the system's default.

    `threads` sets the worker threads of a device that has them (0: OB_THREADS, else one a core).
    Raises DeviceError, which lists the devices, when there is none of that name.
    """
    cdef ob_error error
    cdef ob_device *device
    cdef bytes utf8 = name.encode()
    cdef const char *text = utf8
    cdef uint32_t count
    if threads < 0:
        raise _errors.UsageError(f"threads must be 0 (automatic) or more, not {threads}")
    count = threads
    with nogil:
        device = ob_device_open(text, count, &error)
    if device == NULL:
        _raise(&error)
    return _own(Device, device)


cdef class Device(Handle):
    """A device, its queue and its libraries."""

    cdef ob_device_info describe(self) except *:
        cdef ob_device_info info
        ob_device_describe(<ob_device *>self.enter(), &info)
        self.leave()
        return info

    @property
    def name(self):
        """The name that open_device takes: "cpu" or "metal"."""
        return self.describe().name.decode()

    @property
    def hardware(self):
        return self.describe().hardware.decode("utf-8", "replace")

    @property
    def threads(self):
        """Worker threads; 0 for a device without."""
        return self.describe().threads

    @property
    def max_buffer(self):
        """Bytes of the longest buffer."""
        return self.describe().max_buffer

    @property
    def allocated(self):
        """Bytes in buffers at present."""
        return self.describe().allocated

    @property
    def command_buffers(self):
        """Command buffers that reached the queue so far, counted there; -1 where it does not count."""
        return self.describe().command_buffers

    def open_library(self, path):
        """The compiled shader library at `path`. Raises CompileError."""
        cdef ob_error error
        cdef bytes utf8 = _os.fsencode(path)
        cdef const char *text = utf8
        cdef ob_device *device = <ob_device *>self.enter()
        cdef ob_library *library
        with nogil:
            library = ob_library_open(device, text, &error)
        self.leave()
        if library == NULL:
            _raise(&error)
        return _own(Library, library)

    def compile(self, str source):
        """A library from Metal Shading Language. Raises CompileError with the compiler's messages."""
        cdef ob_error error
        cdef bytes utf8 = source.encode()
        cdef const char *text = utf8
        cdef ob_device *device = <ob_device *>self.enter()
        cdef ob_library *library
        with nogil:
            library = ob_library_compile(device, text, &error)
        self.leave()
        if library == NULL:
            _raise(&error)
        return _own(Library, library)

    def buffer(self, nbytes):
        """A Buffer of `nbytes` zeroed bytes. Raises DeviceError when there is no memory for it."""
        cdef ob_error error
        cdef uint64_t length
        if nbytes <= 0:
            raise _errors.BuildError(f"a buffer needs at least one byte, not {nbytes}")
        length = nbytes
        cdef ob_buffer *buffer = ob_buffer_new(<ob_device *>self.enter(), length, &error)
        self.leave()
        if buffer == NULL:
            _raise(&error)
        return _own(Buffer, buffer)

    def wrap(self, memory):
        """A Buffer over `memory` without a copy; it stays referenced as long as the Buffer.

        `memory` offers the buffer protocol and starts on a page: a memory map, or an array whose
        address and size are multiples of PAGE_SIZE. Raises DeviceError otherwise.
        """
        cdef ob_error error
        cdef ob_buffer *pointer
        cdef uint64_t length
        cdef Buffer buffer = Buffer.__new__(Buffer)
        PyObject_GetBuffer(memory, &buffer.source, PyBUF_SIMPLE)
        buffer.wrapped = True
        length = buffer.source.len
        if isinstance(memory, _mmap.mmap):  # a map owns its last page to the end
            length = (length + <uint64_t>PAGE_SIZE - 1) // <uint64_t>PAGE_SIZE * <uint64_t>PAGE_SIZE
        pointer = ob_buffer_wrap(<ob_device *>self.enter(), buffer.source.buf, length, &error)
        self.leave()
        if pointer == NULL:
            _raise(&error)
        buffer.pointer = pointer
        return buffer

    def chain(self, dispatches, str label="chain"):
        """A Chain of the given :class:`Dispatch` sequence. Raises BuildError naming the dispatch."""
        return _chain(self, list(dispatches), label)


cdef class Library(Handle):
    """Compiled shaders."""

    @property
    def kernel_names(self):
        cdef char name[256]
        cdef ob_library *library = <ob_library *>self.enter()
        names = []
        for i in range(ob_library_count(library)):
            ob_library_name(library, i, name, sizeof(name))
            names.append(name.decode())
        self.leave()
        return names

    def kernel(self, str name):
        """The kernel called `name`. Raises CompileError when the library has none."""
        cdef ob_error error
        cdef bytes utf8 = name.encode()
        cdef const char *text = utf8
        cdef ob_kernel *found = ob_kernel_find(<ob_library *>self.enter(), text, &error)
        cdef Kernel kernel
        self.leave()
        if found == NULL:
            _raise(&error)
        kernel = _own(Kernel, found)
        kernel.name = name
        kernel.reflect()
        return kernel


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
        found = []
        for i in range(ob_kernel_arguments(kernel)):
            ob_kernel_argument(kernel, i, &info)
            argument = Argument.__new__(Argument)
            argument.name = info.name.decode()
            argument.index = info.index
            argument.threadgroup = info.threadgroup
            argument.writes = info.writes
            argument.size = info.size
            argument.alignment = info.alignment
            argument.members = {}
            for j in range(info.members):
                ob_kernel_member(kernel, i, j, &member)
                argument.members[member.name.decode()] = (member.offset, member.type)
            found.append(argument)
        self.leave()
        self.arguments = tuple(found)

    @property
    def threads(self):
        """The largest threadgroup."""
        cdef uint32_t threads = ob_kernel_threads(<ob_kernel *>self.enter())
        self.leave()
        return threads

    @property
    def width(self):
        """Threads of a simdgroup."""
        cdef uint32_t width = ob_kernel_width(<ob_kernel *>self.enter())
        self.leave()
        return width

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


cdef class Buffer(Handle):
    """Memory of the device, shared with the host by the buffer protocol without a copy.

    ``numpy.frombuffer(buffer, dtype)`` sees what kernels write. Writes while a run is in flight
    race with it, as on any device.
    """
    cdef Py_buffer source
    cdef bint wrapped
    cdef int exports

    def __dealloc__(self):
        if self.wrapped:
            PyBuffer_Release(&self.source)

    @property
    def nbytes(self):
        cdef uint64_t length = ob_buffer_length(<ob_buffer *>self.enter())
        self.leave()
        return length

    @property
    def readonly(self):
        return self.wrapped and self.source.readonly

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef ob_buffer *buffer = <ob_buffer *>self.enter()
        try:
            PyBuffer_FillInfo(view, self, ob_buffer_contents(buffer), ob_buffer_length(buffer),
                              self.wrapped and self.source.readonly, flags)
            self.exports += 1
        finally:
            self.leave()

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1

    def close(self):
        """Give the memory back. BufferError while an array or memoryview still looks at it."""
        if self.exports > 0:
            raise BufferError("this Buffer is still seen by an array or memoryview; drop that first")
        Handle.close(self)


class Dispatch:
    """One dispatch of a chain.

    kernel: Kernel. bindings: (slot, Buffer, offset, nbytes) of every buffer argument; the range is
    what the dispatch touches, and hazards are found on it. constants: (slot, bytes) of the struct
    argument, or None. threadgroups: (x, y, z). rows_per_threadgroup: when not 0, y counts tiles of
    that many rows, and a run may ask for fewer rows. label: for messages and traces.
    """
    __slots__ = ("kernel", "bindings", "constants", "threadgroups", "rows_per_threadgroup", "label")

    def __init__(self, kernel, bindings, constants=None, threadgroups=(1, 1, 1), rows_per_threadgroup=0, label=""):
        self.kernel = kernel
        self.bindings = tuple(bindings)
        self.constants = constants
        self.threadgroups = tuple(threadgroups)
        self.rows_per_threadgroup = rows_per_threadgroup
        self.label = label or kernel.name


cdef _chain(Device device, list dispatches, str label):
    cdef size_t count = len(dispatches)
    cdef size_t total = sum(len(dispatch.bindings) for dispatch in dispatches)
    cdef ob_dispatch *descriptions = <ob_dispatch *>PyMem_Calloc(count + 1, sizeof(ob_dispatch))
    cdef ob_binding *bindings = <ob_binding *>PyMem_Calloc(total + 1, sizeof(ob_binding))
    cdef ob_error error
    cdef ob_chain *chain
    cdef bytes name = label.encode()
    cdef list keep = []     # UTF-8 and struct bytes that the descriptions point to
    cdef list entered = []
    cdef size_t next = 0
    cdef Chain result
    if descriptions == NULL or bindings == NULL:
        PyMem_Free(descriptions)
        PyMem_Free(bindings)
        raise MemoryError
    try:
        for i in range(count):
            next = _describe(dispatches[i], &descriptions[i], bindings, next, keep, entered)
        chain = ob_chain_new(<ob_device *>device.enter(), descriptions, count, name, &error)
        device.leave()
    finally:
        for handle in entered:
            (<Handle>handle).leave()
        PyMem_Free(descriptions)
        PyMem_Free(bindings)
    if chain == NULL:
        _raise(&error)
    result = _own(Chain, chain)
    result.label = label
    result.dispatches = tuple(dispatches)
    return result


cdef size_t _describe(dispatch, ob_dispatch *out, ob_binding *bindings, size_t next, list keep, list entered) except? 0:
    cdef Kernel kernel = dispatch.kernel
    cdef Buffer buffer
    cdef bytes text = dispatch.label.encode()
    cdef bytes constants
    out.kernel = <ob_kernel *>kernel.enter()
    entered.append(kernel)
    keep.append(text)
    out.label = text
    out.bindings = bindings + next
    writes = {argument.index for argument in kernel.arguments if argument.writes and not argument.threadgroup}
    for slot, buffer, offset, nbytes in dispatch.bindings:
        if buffer.readonly and slot in writes:
            raise _errors.BuildError(f"{dispatch.label} ({kernel.name}): argument {slot} is written, "
                                     "but its buffer wraps read-only memory")
        bindings[next].buffer = <ob_buffer *>buffer.enter()
        entered.append(buffer)
        bindings[next].offset = offset
        bindings[next].length = nbytes
        bindings[next].slot = slot
        next += 1
    out.binding_count = len(dispatch.bindings)
    if dispatch.constants is not None:
        slot, constants = dispatch.constants
        keep.append(constants)
        out.bytes = <const char *>constants
        out.byte_count = len(constants)
        out.bytes_slot = slot
    for i in range(3):
        out.threadgroups[i] = dispatch.threadgroups[i]
    out.rows_per_threadgroup = dispatch.rows_per_threadgroup
    return next


cdef class Chain(Handle):
    """An immutable list of dispatches; every run of it is one command buffer."""
    cdef readonly str label
    cdef readonly tuple dispatches   # also keeps wrapped memory alive

    def __len__(self):
        return len(self.dispatches)

    @property
    def conflicts(self):
        """For each dispatch, the earlier one it waits for at a barrier, or -1 without a barrier."""
        cdef ob_chain *chain = <ob_chain *>self.enter()
        result = [ob_chain_conflict(chain, i) for i in range(ob_chain_count(chain))]
        self.leave()
        return result

    def commit(self, uint32_t rows=0):
        """Encode one command buffer, commit it, and return its Run without waiting.

        `rows` limits dispatches that go by rows; 0 runs all the rows they were made for.
        """
        cdef ob_error error
        cdef ob_chain *chain = <ob_chain *>self.enter()
        cdef ob_run *run
        cdef Run result
        with nogil:
            run = ob_chain_commit(chain, rows, &error)
        self.leave()
        if run == NULL:
            _raise(&error)
        result = _own(Run, run)
        result.chain = self
        return result

    def run(self, uint32_t rows=0):
        """Commit and wait. Raises RunError when the command buffer failed."""
        cdef Run run = self.commit(rows)
        run.wait()
        return run

    def trace(self, uint32_t rows=0):
        """Run each dispatch in a command buffer of its own; a list of (start, end) in seconds."""
        cdef ob_error error
        cdef ob_chain *chain = <ob_chain *>self.enter()
        cdef size_t count = len(self.dispatches)
        cdef double *times = <double *>PyMem_Calloc(2 * count, sizeof(double))
        cdef int status
        if times == NULL:
            self.leave()
            raise MemoryError
        with nogil:
            status = ob_chain_trace(chain, rows, times, times + count, &error)
        self.leave()
        result = [(times[i], times[count + i]) for i in range(count)]
        PyMem_Free(times)
        if status != 0:
            _raise(&error)
        return result


cdef class Run(Handle):
    """One committed command buffer."""
    cdef Chain chain

    def __dealloc__(self):
        # Before the chain goes, and with it the memory that its buffers wrap: this waits.
        if self.pointer != NULL:
            ob_release(self.pointer)
            self.pointer = NULL

    def wait(self):
        """Block until it has completed; the GIL is released. Raises RunError when it failed."""
        cdef ob_error error
        cdef ob_run *run = <ob_run *>self.enter()
        cdef int status
        with nogil:
            status = ob_run_wait(run, &error)
        self.leave()
        if status != 0:
            _raise(&error)

    @property
    def done(self):
        """Whether it has completed or failed; does not block."""
        cdef int done = ob_run_done(<ob_run *>self.enter())
        self.leave()
        return bool(done)

    cdef ob_run_times describe(self) except *:
        cdef ob_run_times times
        ob_run_describe(<ob_run *>self.enter(), &times)
        self.leave()
        return times

    @property
    def encode_seconds(self):
        """Host seconds that encoding took."""
        return self.describe().encode_seconds

    @property
    def device_seconds(self):
        """(start, end) on the device's clock."""
        times = self.describe()
        return times.device_start, times.device_end

    def close(self):
        """Wait for the command buffer and give it back."""
        if not self.closed:
            self.wait()
        Handle.close(self)


def plan_barriers(dispatches):
    """Where a list of dispatches needs barriers, without a device.

    `dispatches` holds, for each, its accesses as (resource, begin, end, writes), resource being
    any integer. Returns, for each, the earlier dispatch it conflicts with, or -1 without a barrier.
    """
    cdef list lists = [list(each) for each in dispatches]
    cdef size_t count = len(lists)
    cdef size_t total = sum(len(each) for each in lists)
    cdef OBAccess *accesses = <OBAccess *>PyMem_Calloc(total + 1, sizeof(OBAccess))
    cdef size_t *first = <size_t *>PyMem_Calloc(count + 1, sizeof(size_t))
    cdef ptrdiff_t *conflicts = <ptrdiff_t *>PyMem_Calloc(count + 1, sizeof(ptrdiff_t))
    cdef size_t next = 0
    try:
        if accesses == NULL or first == NULL or conflicts == NULL:
            raise MemoryError
        for i in range(count):
            first[i] = next
            for resource, begin, end, writes in lists[i]:
                accesses[next].resource = resource
                accesses[next].begin = begin
                accesses[next].end = end
                accesses[next].writes = writes
                next += 1
        first[count] = next
        OBPlanBarriers(accesses, first, count, conflicts)
        return [conflicts[i] for i in range(count)]
    finally:
        PyMem_Free(accesses)
        PyMem_Free(first)
        PyMem_Free(conflicts)
