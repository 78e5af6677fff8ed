# Devices: opening one, and what is made from it.


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


def device_names():
    """The names of all devices of this machine, as open_device takes them."""
    cdef char text[256]
    cdef size_t count
    cdef ob_error error
    if ob_device_count(&count, &error) != 0:
        _raise(&error)
    names = []
    for i in range(count):
        if ob_device_name(i, text, sizeof(text), &error) != 0:
            _raise(&error)
        names.append(text.decode("utf-8", "replace"))
    return names


def device_problem(str name):
    """Why this machine has no device of that name, in one line; "" where nothing is known of that."""
    cdef char text[1024]
    cdef ob_error error
    cdef bytes utf8 = name.encode()
    if ob_device_problem(utf8, text, sizeof(text), &error) != 0:
        _raise(&error)
    return text.decode("utf-8", "replace")


cdef class Device(Handle):
    """A device, its queue and its libraries.

    `findings` is what a device that checks kernels found in the runs waited for: dictionaries of strings.
    """
    cdef readonly list findings

    cdef ob_device_info describe(self) except *:
        cdef ob_device_info info
        cdef ob_error error
        cdef int status = ob_device_describe(<ob_device *>self.enter(), &info, &error)
        self.leave()
        if status != 0:
            _raise(&error)
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
    def cores(self):
        """Cores of a GPU, each of which has a threadgroup of its own resident; 0 where the device does not tell."""
        return self.describe().cores

    @property
    def memory(self):
        """Bytes of memory that the device has of its own; 0 where it does not tell."""
        return self.describe().memory

    @property
    def transfers(self):
        """Command buffers so far that only moved bytes between host and device."""
        return self.describe().transfers

    @property
    def resident(self):
        """Bytes of buffers that are kept within the device's reach from run to run, where the system can do that."""
        return self.describe().resident

    @property
    def archives(self):
        """Whether compiled kernels may be kept in files, see Library.use_archive."""
        return bool(self.describe().archives)

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

    def wrap(self, memory, uint64_t begin=0, end=None):
        """A Buffer over the bytes `begin` to `end` of `memory` (None: all that follow) without a copy; it stays
        referenced as long as the Buffer.

        `memory` offers the buffer protocol and starts on a page: a memory map, or an array whose address is a multiple
        of PAGE_SIZE. `begin` and the length are such multiples, too. Raises DeviceError otherwise, and where the device
        takes no buffer of that length.
        """
        cdef ob_error error
        cdef ob_buffer *pointer
        cdef uint64_t length
        cdef Buffer buffer = Buffer.__new__(Buffer)
        PyObject_GetBuffer(memory, &buffer.source, PyBUF_SIMPLE)
        buffer.wrapped = True
        length = buffer.source.len
        if end is not None:
            length = min(length, <uint64_t>end)
        if begin > length:
            raise _errors.DeviceError(f"bytes {begin} to {length} of memory cannot be wrapped: none are there")
        length -= begin
        if isinstance(memory, _mmap.mmap):  # a map owns its last page to the end
            length = (length + <uint64_t>PAGE_SIZE - 1) // <uint64_t>PAGE_SIZE * <uint64_t>PAGE_SIZE
        pointer = ob_buffer_wrap(<ob_device *>self.enter(), <char *>buffer.source.buf + begin, length, &error)
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
