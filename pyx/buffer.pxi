# Buffers: device memory by the buffer protocol, or by transfers where the host does not see it.


cdef class Buffer(Handle):
    """Memory of the device, shared with the host by the buffer protocol without a copy.

    ``numpy.frombuffer(buffer, dtype)`` sees what kernels write. Writes while a run is in flight
    race with it, as on any device. Private memory has no such view: see Device.write and Device.read.
    """
    cdef object __weakref__   # a device finds the Buffer of a map again as long as somebody has it
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
    def address(self):
        """What a pointer to the memory is in an argument buffer. MemoryError where the device cannot give one."""
        cdef uint64_t address = ob_buffer_address(<ob_buffer *>self.enter())
        self.leave()
        if address == 0:
            raise MemoryError("the device has no address for this buffer")
        return address

    @property
    def private(self):
        """Whether the host does not see the memory."""
        cdef void *contents = ob_buffer_contents(<ob_buffer *>self.enter())
        self.leave()
        return contents == NULL

    @property
    def readonly(self):
        return self.wrapped and self.source.readonly

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef ob_buffer *buffer = <ob_buffer *>self.enter()
        cdef void *contents = ob_buffer_contents(buffer)
        try:
            if contents == NULL:
                raise BufferError("the host does not see this Buffer, which is private to its device; "
                                  "use Device.read and Device.write")
            PyBuffer_FillInfo(view, self, contents, ob_buffer_length(buffer),
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


ctypedef int (*transfer_call)(ob_device *, const ob_transfer *, size_t, ob_error *) noexcept nogil


cdef _transfer(Device device, transfers, transfer_call call, int flags):
    cdef list given = list(transfers)
    cdef size_t count = len(given), entered = 0, held = 0
    cdef ob_transfer *described = <ob_transfer *>PyMem_Calloc(count + 1, sizeof(ob_transfer))
    cdef Py_buffer *views = <Py_buffer *>PyMem_Calloc(count + 1, sizeof(Py_buffer))
    cdef ob_device *handle
    cdef ob_error error
    cdef int status
    cdef Buffer buffer
    try:
        if described == NULL or views == NULL:
            raise MemoryError
        for handed, offset, host in given:
            buffer = <Buffer?>handed   # not None
            if buffer.readonly and flags == PyBUF_SIMPLE:
                raise _errors.BuildError("a Buffer that wraps read-only memory cannot be written")
            described[entered].buffer = <ob_buffer *>buffer.enter()
            entered += 1
            described[held].offset = offset
            PyObject_GetBuffer(host, &views[held], flags)
            described[held].host = views[held].buf
            described[held].length = views[held].len
            held += 1
        handle = <ob_device *>device.enter()
        with nogil:
            status = call(handle, described, count, &error)
        device.leave()
    finally:
        for i in range(held):
            PyBuffer_Release(&views[i])
        for i in range(entered):
            (<Handle>given[i][0]).leave()
        PyMem_Free(described)
        PyMem_Free(views)
    if status != 0:
        _raise(&error)
