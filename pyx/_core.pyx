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
STAGE_THREADS = OB_STAGE_THREADS
ROW_THREADS, ROW_GATE_UP_THREADS, ROW_BUSY = OB_ROW_THREADS, OB_ROW_GATE_UP_THREADS, OB_ROW_BUSY
ROW_TILES, ROW3_TILES, ROW_GATE_UP_TILES = OB_ROW_TILES, OB_ROW3_TILES, OB_ROW_GATE_UP_TILES
ROW_CHUNKS, ROW_SHARES, ROW_TOP_K, ROW_EXPERTS = OB_ROW_CHUNKS, OB_ROW_SHARES, OB_ROW_TOP_K, OB_ROW_EXPERTS
ROPE_HEADS = OB_ROPE_HEADS
ATTENTION_TILE = OB_ATTENTION_TILE
ATTENTION_HEAD_DIM, ATTENTION_V_DIM = OB_ATTENTION_HEAD_DIM, OB_ATTENTION_V_DIM
ATTENTION_PART, ATTENTION_PARTS = OB_ATTENTION_PART, OB_ATTENTION_PARTS
ATTENTION_PART_END = OB_ATTENTION_PART_END
TENSOR_ATTENTION_HEADS, TENSOR_ATTENTION_PART = OB_TENSOR_ATTENTION_HEADS, OB_TENSOR_ATTENTION_PART
NORM_HEAD, NORM_ALL = OB_NORM_HEAD, OB_NORM_ALL
CACHE_BLOCK, CACHE_GROUP = OB_CACHE_BLOCK, OB_CACHE_GROUP
F32, F16, BF16 = OB_F32, OB_F16, OB_BF16
CONV_CHANNELS, DELTA_VALUES, GATED_HEADS = OB_CONV_CHANNELS, OB_DELTA_VALUES, OB_GATED_HEADS
MAX_TOP_K = OB_MAX_TOP_K
SAMPLE_PART = OB_SAMPLE_PART
SAMPLE_BLOCK = OB_SAMPLE_BLOCK
SAMPLE_LIST = OB_SAMPLE_LIST
MAX_LOGPROBS = OB_MAX_LOGPROBS
NONE = <uint32_t>OB_NONE
# How a bias is stored, by dtype, and what gate and up become, by name.
STORED = {None: OB_NOT_STORED, "f32": OB_STORED_F32, "f16": OB_STORED_F16, "bf16": OB_STORED_BF16}
ACTIVATIONS = {"silu": OB_SILU, "gelu_tanh": OB_GELU_TANH, "swiglu_oai": OB_SWIGLU_OAI, "relu": OB_RELU}
GATE_ALONE = OB_GATE_ALONE
CHUNKED, TILED = <uint32_t>OB_CHUNKED, <uint32_t>OB_TILED

# struct-module formats of the scalar MTLDataTypes that a struct argument may have.
cdef dict _FORMATS = {3: "f", 16: "e", 29: "i", 33: "I", 37: "h", 41: "H", 45: "b", 49: "B", 53: "?",
                      60: "Q", 81: "q", 85: "Q"}
cdef dict _NAMES = {3: "float", 16: "half", 29: "int", 33: "uint", 37: "short", 41: "ushort", 45: "char", 49: "uchar",
                    53: "bool", 60: "a pointer", 81: "long", 85: "ulong", 121: "bfloat"}
cdef dict _LARGEST = {"float": 3.4028234e38, "half": 65504, "bfloat": 3.3895e38}

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


cdef enum:
    _MOST_CONSTANTS = 256  # function constants of a shader


cdef class Constant:
    """A function constant that a kernel uses: name, index, MTLDataType, and whether it needs a value."""
    cdef readonly str name
    cdef readonly int index
    cdef readonly int type
    cdef readonly bint required


cdef bytes _packed_constant(str kernel, constant, given):
    """The bytes of a function constant's value, as its type has them."""
    cdef int count
    for code, format in ((*_FORMATS.items(), (121, "H"))):
        count = constant.type - code + 1
        if not 1 <= count <= 4:
            continue
        values = [given] if count == 1 else given
        try:
            values = list(values)
            if len(values) != count:
                raise ValueError
            if code == 121:
                values = [_bfloat(value) for value in values]
            values += [values[0]] * (count == 3)  # a vector of three has the size of four
            return _struct.pack(f"<{len(values)}{format}", *values)
        except (TypeError, ValueError, OverflowError, _struct.error):
            wanted = "a value that its type holds" if count == 1 else f"a vector of {count}"
            raise _errors.BuildError(f"kernel {kernel}: function constant {constant.name} = {given!r} does not fit; "
                                     f"give {wanted}") from None
    raise _errors.BuildError(f"kernel {kernel}: function constant {constant.name} is no scalar or vector of them")


cdef Kernel _reflected(str name, ob_kernel *found, ob_error *error):
    """The kernel that was found, with its arguments."""
    cdef Kernel kernel
    if found == NULL:
        _raise(error)
    kernel = _own(Kernel, found)
    kernel.name = name
    kernel.reflect()
    return kernel


cdef class Library(Handle):
    """Compiled shaders."""

    @property
    def kernel_names(self):
        cdef char name[256]
        cdef size_t count
        cdef ob_error error
        cdef ob_library *library = <ob_library *>self.enter()
        names = []
        try:
            if ob_library_count(library, &count, &error) != 0:
                _raise(&error)
            for i in range(count):
                if ob_library_name(library, i, name, sizeof(name), &error) != 0:
                    _raise(&error)
                names.append(name.decode("utf-8", "replace"))
        finally:
            self.leave()
        return names

    def use_archive(self, Device device, path):
        """From now on takes compiled kernels from the archive at `path`, where it has them, and adds the others. The
        file may be missing, damaged or of another version. Nothing happens where the device has no archives."""
        cdef ob_error error
        cdef bytes utf8 = _os.fsencode(path)
        cdef ob_library *library = <ob_library *>self.enter()
        cdef int status
        try:
            status = ob_library_use_archive(<ob_device *>device.enter(), library, utf8, &error)
            device.leave()
        finally:
            self.leave()
        if status != 0:
            _raise(&error)

    def save_archive(self):
        """Writes the archive, where kernels were added to it. Raises DeviceError where it cannot be written."""
        cdef ob_error error
        cdef ob_library *library = <ob_library *>self.enter()
        cdef int status
        with nogil:
            status = ob_library_save_archive(library, &error)
        self.leave()
        if status != 0:
            _raise(&error)

    @property
    def archive_counts(self):
        """How many kernels so far were in the archive, and how many had to be compiled; 0 and 0 without one."""
        cdef ob_error error
        cdef ob_archive_counts counts
        cdef int status = ob_library_archive_counts(<ob_library *>self.enter(), &counts, &error)
        self.leave()
        if status != 0:
            _raise(&error)
        return counts.found, counts.compiled

    def kernel(self, str name, constants=None):
        """The kernel called `name`. Raises CompileError when the library has none, and where it lacks a value.

        constants: {name of a function constant: value}, a number or a bool, or a sequence for a vector.
        """
        cdef ob_error error
        cdef bytes utf8 = name.encode()
        cdef const char *text = utf8
        cdef ob_kernel *found
        if constants:
            found = self.specialised(name, constants, &error)
        else:
            found = ob_kernel_find(<ob_library *>self.enter(), text, &error)
            self.leave()
        return _reflected(name, found, &error)

    cdef ob_kernel *specialised(self, str name, constants, ob_error *error) except? NULL:
        cdef ob_constant_value values[_MOST_CONSTANTS]
        cdef bytes utf8 = name.encode(), value
        cdef ob_kernel *found
        cdef size_t count = 0
        known = {constant.name: constant for constant in self.constants(name)}
        kept = []
        for key, given in constants.items():
            if key not in known:
                raise _errors.BuildError(f"kernel {name}: it uses no function constant called {key}; it has "
                                         f"{', '.join(known) or 'none'}")
            constant = known[key]
            value = _packed_constant(name, constant, given)
            kept.append(value)
            values[count].index = constant.index
            values[count].type = constant.type
            values[count].value = <const char *>value
            count += 1
        found = ob_kernel_specialise(<ob_library *>self.enter(), utf8, values, count, error)
        self.leave()
        return found

    def constants(self, str name):
        """The function constants that the kernel called `name` uses, by index. Raises CompileError as kernel does."""
        cdef ob_error error
        cdef ob_constant info
        cdef Constant constant
        cdef bytes utf8 = name.encode()
        cdef size_t count
        cdef ob_library *library = <ob_library *>self.enter()
        found = []
        try:
            if ob_kernel_constant_count(library, utf8, &count, &error) != 0:
                _raise(&error)
            for i in range(min(count, <size_t>_MOST_CONSTANTS)):
                if ob_kernel_constant(library, utf8, i, &info, &error) != 0:
                    _raise(&error)
                constant = Constant.__new__(Constant)
                constant.name = info.name.decode("utf-8", "replace")
                constant.index = info.index
                constant.type = info.type
                constant.required = info.required
                found.append(constant)
        finally:
            self.leave()
        return tuple(found)


include "device.pxi"
include "kernel.pxi"
include "buffer.pxi"
include "chain.pxi"
include "files.pxi"
