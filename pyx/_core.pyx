# cython: language_level=3, binding=True, embedsignature=True
"""Handles on the Objective-C core: device, library, kernel, buffer, chain, run.

A handle comes from :func:`open_device` or from another handle, never from its class; after
``close()`` every use raises :class:`~pipeline.errors.ClosedError`. The GIL is released while the
core compiles, commits and waits. Handles may be shared by threads.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

from onebuf cimport *

import array as _array
import mmap as _mmap
import os as _os
import struct as _struct

from pipeline import errors as _errors

PAGE_SIZE = _mmap.PAGESIZE

# Sizes that the shaders share with whoever computes grids (shaders/args.h).
LINEAR_OUTPUTS = OB_LINEAR_OUTPUTS
LINEAR_ROWS = OB_LINEAR_ROWS
ROPE_HEADS = OB_ROPE_HEADS
ATTENTION_TILE = OB_ATTENTION_TILE
ATTENTION_HEAD_DIM, ATTENTION_V_DIM = OB_ATTENTION_HEAD_DIM, OB_ATTENTION_V_DIM
ATTENTION_PART, ATTENTION_PARTS = OB_ATTENTION_PART, OB_ATTENTION_PARTS
ATTENTION_PART_END = OB_ATTENTION_PART_END
NORM_HEAD, NORM_ALL = OB_NORM_HEAD, OB_NORM_ALL
CACHE_GROUP = OB_CACHE_GROUP
F32, F16, BF16 = OB_F32, OB_F16, OB_BF16
MAX_TOP_K = OB_MAX_TOP_K
SAMPLE_PART = OB_SAMPLE_PART
SAMPLE_BLOCK = OB_SAMPLE_BLOCK
SAMPLE_LIST = OB_SAMPLE_LIST
MAX_LOGPROBS = OB_MAX_LOGPROBS
NONE = <uint32_t>OB_NONE
# How a bias is stored, by dtype, and what gate and up become, by name.
STORED = {None: OB_NOT_STORED, "f32": OB_STORED_F32, "f16": OB_STORED_F16, "bf16": OB_STORED_BF16}
ACTIVATIONS = {"silu": OB_SILU, "gelu_tanh": OB_GELU_TANH, "swiglu_oai": OB_SWIGLU_OAI}

# struct-module formats of the scalar MTLDataTypes that a struct argument may have.
cdef dict _FORMATS = {3: "f", 16: "e", 29: "i", 33: "I", 37: "h", 41: "H", 45: "b", 49: "B", 53: "?",
                      81: "q", 85: "Q"}

cdef dict _EXCEPTIONS = {OB_DEVICE: _errors.DeviceError, OB_COMPILE: _errors.CompileError,
                         OB_ARGUMENT: _errors.BuildError, OB_MEMORY: _errors.DeviceError,
                         OB_RUN: _errors.RunError}


cdef object _raise(ob_error *error, str more=""):
    message = error.message.decode("utf-8", "replace")
    raise _EXCEPTIONS.get(error.code, _errors.DeviceError)(f"{message}\n{more}" if more else message)


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


def open_device(str name="auto", *, int threads=0, int schedules=0, str isa=None):
    """The device called `name`; "auto" is the system's default.

    `threads` sets the worker threads of a device that has them (0: OB_THREADS, else one per core).
    `schedules` is how many orders of its threads a device that checks kernels tries for each dispatch.
    `isa` is the instruction set of a device that is a processor (None: OB_ISA, else its best).
    Raises DeviceError, which lists the choices, when there is no such device or instruction set, and
    UsageError for a setting that the device cannot have.
    """
    cdef ob_error error
    cdef ob_device *device
    cdef ob_device_options options
    cdef bytes utf8 = name.encode(), instructions = (isa or "").encode()
    cdef const char *text = utf8
    cdef Device result
    for setting, count in (("threads", threads), ("schedules", schedules)):
        if count < 0:
            raise _errors.UsageError(f"{setting} must be 0 (automatic) or more, not {count}")
    options.threads = threads
    options.schedules = schedules
    options.isa = <const char *>instructions if isa is not None else NULL
    with nogil:
        device = ob_device_open(text, &options, &error)
    if device == NULL and error.code == OB_ARGUMENT:
        raise _errors.UsageError(error.message.decode("utf-8", "replace"))
    if device == NULL:
        _raise(&error)
    result = _own(Device, device)
    result.findings = []
    return result


cdef class Device(Handle):
    """A device, its queue and its libraries.

    `findings` is what a device that checks kernels found in the runs waited for: dictionaries of strings.
    """
    cdef readonly list findings

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
    def isa(self):
        """The instruction set that kernels use on a device that is a processor, such as "avx2"; else ""."""
        return self.describe().isa.decode()

    @property
    def threads(self):
        """Worker threads; 0 for a device without any."""
        return self.describe().threads

    @property
    def schedules(self):
        """Orders of threads tried for each dispatch; 0 for a device that does not check kernels."""
        return self.describe().schedules

    @property
    def max_buffer(self):
        """Bytes of the longest buffer."""
        return self.describe().max_buffer

    @property
    def allocated(self):
        """Bytes in buffers at present."""
        return self.describe().allocated

    @property
    def unified(self):
        """Whether the device's memory is the host's: private memory is then shared."""
        return bool(self.describe().unified)

    @property
    def working_set(self):
        """Bytes that may be in use on the device at once without loss of speed."""
        return self.describe().working_set

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

    def buffer(self, nbytes, *, bint private=False):
        """A Buffer of `nbytes` zeroed bytes. Raises DeviceError when there is no memory for it.

        private: the host reaches it by :meth:`write` and :meth:`read` only, where the device has memory of its own.
        """
        cdef ob_error error
        cdef uint64_t length
        cdef int storage = OB_PRIVATE if private else OB_SHARED
        if nbytes <= 0:
            raise _errors.BuildError(f"a buffer needs at least one byte, not {nbytes}")
        length = nbytes
        cdef ob_buffer *pointer = ob_buffer_new(<ob_device *>self.enter(), length, storage, &error)
        self.leave()
        if pointer == NULL:
            _raise(&error)
        return _own(Buffer, pointer)

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

    def write(self, transfers):
        """Writes (Buffer, byte offset, bytes-like), all of them in one command buffer, or in none where the host sees
        the buffers. Does not wait: runs that were committed before may still see the old bytes."""
        _transfer(self, transfers, ob_buffer_write, PyBUF_SIMPLE)

    def read(self, transfers):
        """Reads into (Buffer, byte offset, writable bytes-like), all of them in one command buffer, and waits."""
        _transfer(self, transfers, ob_buffer_read, PyBUF_WRITABLE)

    def upload(self, transfers):
        """Writes (Buffer, byte offset, bytes-like) whose bytes are parts of one memory map, where the device reads
        them without a copy on the way, and waits."""
        _transfer(self, transfers, ob_buffer_upload, PyBUF_SIMPLE)

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


include "kernel.pxi"
include "buffer.pxi"
include "chain.pxi"
