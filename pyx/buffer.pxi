# Buffers: device memory by the buffer protocol.


cdef class Buffer(Handle):
    """Memory of the device, shared with the host by the buffer protocol without a copy.

    ``numpy.frombuffer(buffer, dtype)`` sees what kernels write. Writes while a run is in flight
    race with it, as on any device.
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
