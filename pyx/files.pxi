# Mapped files: a line that names one which is cut short while it is in use.


cdef class FileWatch:
    """Watches a map of a file as long as this object lives; it comes from :func:`watch_file`."""
    cdef ob_file_map *map

    def __init__(self):
        raise TypeError("FileWatch cannot be made directly; use watch_file()")

    def __dealloc__(self):
        ob_file_map_forget(self.map)


def watch_file(memory, name, int exit_code=0):
    """Watches `memory`, a map of the file `name`. Where the file no longer has what is read, one line on standard error
    names it. The process then exits with `exit_code`; 0: it gets the signal, as without a watch."""
    cdef Py_buffer view
    cdef bytes text = _os.fsencode(name)
    cdef FileWatch watch = FileWatch.__new__(FileWatch)
    PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE)
    watch.map = ob_file_map_watch(view.buf, view.len, text, exit_code)
    PyBuffer_Release(&view)
    if watch.map == NULL:
        raise _errors.DeviceError(f"{name}: no memory left to map it")
    return watch
