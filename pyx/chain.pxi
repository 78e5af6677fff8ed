# Chains and their runs; where barriers go.


class Dispatch:
    """One dispatch of a chain.

    kernel: Kernel. bindings: (slot, Buffer, offset, nbytes) of every buffer argument; the range is
    what the dispatch touches, and hazards are found on it. constants: (slot, bytes) of the struct
    argument, or None. threadgroups: (x, y, z). rows_per_threadgroup: when not 0, y counts tiles of
    that many rows, and a run may ask for fewer rows. label: for messages and traces.

    rows_member: the member of the struct argument, a uint, in which each run finds its number of rows:
    what the constants have there, or fewer where the run asks for fewer.
    threads: (x, y, z) of a threadgroup; without, as many as the kernel allows. grid: (x, y, z) threads
    in all, which then count instead of threadgroups; those at the edges may be smaller.
    uses: (Buffer, whether it is written) of all memory that is reached by an address in an argument buffer.
    counts: (Buffer, offset) of three uint32 there, which are the threadgroups when the dispatch starts, or None.
    threadgroup_memory: {slot: bytes} of every threadgroup argument. leading: whether it goes by the leading rows
    of a run instead of all.
    """
    __slots__ = ("kernel", "bindings", "constants", "threadgroups", "rows_per_threadgroup", "label", "rows_member",
                 "grid", "threads", "threadgroup_memory", "leading", "uses", "counts")

    def __init__(self, kernel, bindings, constants=None, threadgroups=(1, 1, 1), rows_per_threadgroup=0, label="", *,
                 rows_member=None, grid=None, threads=None, threadgroup_memory=None, leading=False, uses=(),
                 counts=None):
        self.kernel = kernel
        self.bindings = tuple(bindings)
        self.constants = constants
        self.threadgroups = tuple(threadgroups)
        self.rows_per_threadgroup = rows_per_threadgroup
        self.label = label or kernel.name
        self.rows_member = rows_member
        self.grid = tuple(grid) if grid is not None else None
        self.threads = tuple(threads) if threads is not None else None
        self.threadgroup_memory = dict(threadgroup_memory or {})
        self.leading = leading
        self.uses = tuple(uses)
        self.counts = counts


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
    result.device = device
    return result


cdef size_t _describe(dispatch, ob_dispatch *out, ob_binding *bindings, size_t next, list keep, list entered) except? 0:
    cdef Kernel kernel = <Kernel?>dispatch.kernel   # not None, which the calls below would not survive
    cdef Buffer buffer
    cdef bytes text = dispatch.label.encode()
    cdef bytes constants, member
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
    if dispatch.rows_member is not None:
        member = dispatch.rows_member.encode()
        keep.append(member)
        out.rows_member = member
    for size in (dispatch.grid, dispatch.threads):
        if size is not None and (len(size) != 3 or min(size) < 1):
            raise _errors.BuildError(f"{dispatch.label} ({kernel.name}): a grid and a threadgroup have three sizes "
                                     f"of at least 1, not {size}")
    for i in range(3):
        out.threadgroups[i] = dispatch.threadgroups[i]
        if dispatch.grid is not None:
            out.grid[i] = dispatch.grid[i]
        if dispatch.threads is not None:
            out.threads[i] = dispatch.threads[i]
    _describe_memory(dispatch, out, keep)
    out.rows_per_threadgroup = dispatch.rows_per_threadgroup
    out.leading = dispatch.leading
    _describe_reached(dispatch, out, keep, entered)
    return next


cdef _describe_reached(dispatch, ob_dispatch *out, list keep, list entered):
    cdef Buffer buffer
    cdef bytearray room
    cdef ob_use *uses
    if dispatch.uses:
        room = bytearray(len(dispatch.uses) * sizeof(ob_use))
        keep.append(room)
        uses = <ob_use *><char *>room
        for i, (handed, writes) in enumerate(dispatch.uses):
            buffer = <Buffer?>handed
            if writes and buffer.readonly:
                raise _errors.BuildError(f"{dispatch.label} ({dispatch.kernel.name}): memory that an argument buffer "
                                         "points to is written, but its buffer wraps read-only memory")
            uses[i].buffer = <ob_buffer *>buffer.enter()
            uses[i].writes = bool(writes)
            entered.append(buffer)
        out.uses = uses
        out.use_count = len(dispatch.uses)
    if dispatch.counts is not None:
        handed, offset = dispatch.counts
        buffer = <Buffer?>handed
        out.indirect = <ob_buffer *>buffer.enter()
        out.indirect_offset = offset
        entered.append(buffer)


cdef _describe_memory(dispatch, ob_dispatch *out, list keep):
    slots = {argument.index for argument in dispatch.kernel.arguments if argument.threadgroup}
    if not dispatch.threadgroup_memory:
        return
    for slot in dispatch.threadgroup_memory:
        if slot not in slots:
            raise _errors.BuildError(f"{dispatch.label} ({dispatch.kernel.name}) has no threadgroup argument {slot}")
    lengths = _array.array("I", [dispatch.threadgroup_memory.get(slot, 0) for slot in range(max(slots) + 1)])
    keep.append(lengths)
    out.threadgroup_memory = <const uint32_t *><uintptr_t>lengths.buffer_info()[0]
    out.threadgroup_memory_count = len(lengths)


cdef class Chain(Handle):
    """An immutable list of dispatches; every run of it is one command buffer."""
    cdef readonly str label
    cdef readonly tuple dispatches   # also keeps wrapped memory alive
    cdef Device device

    def __len__(self):
        return len(self.dispatches)

    @property
    def conflicts(self):
        """For each dispatch, the earlier one it waits for at a barrier, or -1 without a barrier."""
        cdef ob_chain *chain = <ob_chain *>self.enter()
        result = [ob_chain_conflict(chain, i) for i in range(ob_chain_count(chain))]
        self.leave()
        return result

    def commit(self, uint32_t rows=0, uint32_t leading=0):
        """Encode one command buffer, commit it, and return its Run without waiting.

        `rows` limits dispatches that go by rows; 0 runs all the rows they were made for. `leading` limits those that
        go by the leading rows; 0 runs as many as of the others.
        """
        cdef ob_error error
        cdef ob_chain *chain = <ob_chain *>self.enter()
        cdef ob_rows counts = ob_rows(rows, leading)
        cdef ob_run *run
        cdef Run result
        with nogil:
            run = ob_chain_commit(chain, counts, &error)
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
        cdef ob_rows counts = ob_rows(rows, 0)
        cdef int status
        if times == NULL:
            self.leave()
            raise MemoryError
        with nogil:
            status = ob_chain_trace(chain, counts, times, times + count, &error)
        self.leave()
        try:
            if status != 0:
                _raise(&error)
            return [(times[i], times[count + i]) for i in range(count)]
        finally:
            PyMem_Free(times)


# What the device may tell of a finding.
_SIDE = ("kernel", "label", "file", "line", "access", "thread", "threadgroup", "frames")
_DETAILS = ("description", "kind", "severity", *_SIDE, *(f"other {name}" for name in _SIDE), "name", "index", "space",
            "offset", "length", "size", "text", "remedy", "count")


cdef class Run(Handle):
    """One committed command buffer."""
    cdef Chain chain
    cdef bint asked   # for findings

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
        try:
            found = self.findings(run) if not self.asked else []
        finally:
            self.leave()
        if status != 0:
            if found:
                _raise(&error, found[0]["description"])
            _raise(&error)

    cdef list findings(self, ob_run *run):
        """What the device found in this run, added once to what it found so far."""
        cdef char text[4096]
        cdef bytes name
        cdef size_t count
        cdef int status
        cdef ob_error error
        found = []
        self.asked = True
        if ob_run_findings(run, &count, &error) != 0:
            _raise(&error)
        for i in range(count):
            details = {}
            for key in _DETAILS:
                name = key.encode()
                status = ob_run_finding(run, i, name, text, sizeof(text), &error)
                if status < 0:
                    _raise(&error)
                if status == 0:
                    details[key] = text.decode("utf-8", "replace")
            found.append(details)
        self.chain.device.findings.extend(found)
        return found

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
