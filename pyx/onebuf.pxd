# The one place of externs: objc/core/onebuf.h, OBFileMaps.h and OBHazard.h beside it, and shaders/args.h as Cython sees them.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "core/onebuf.h" nogil:
    ctypedef struct ob_device
    ctypedef struct ob_library
    ctypedef struct ob_kernel
    ctypedef struct ob_buffer
    ctypedef struct ob_chain
    ctypedef struct ob_run

    enum: OB_DEVICE, OB_COMPILE, OB_ARGUMENT, OB_MEMORY, OB_RUN

    enum: OB_SHARED, OB_PRIVATE

    ctypedef struct ob_error:
        int code
        char message[4096]

    ctypedef struct ob_device_options:
        uint32_t threads
        uint32_t schedules
        const char *isa

    ctypedef struct ob_device_info:
        char name[32]
        char hardware[128]
        uint32_t threads
        uint64_t max_buffer
        uint64_t allocated
        int64_t command_buffers
        char isa[16]
        uint32_t schedules
        uint32_t unified
        uint64_t working_set
        uint64_t memory
        uint64_t transfers
        uint64_t resident
        uint32_t archives
        uint32_t cores

    ctypedef struct ob_archive_counts:
        uint64_t found
        uint64_t compiled

    ctypedef struct ob_argument:
        char name[64]
        uint32_t index
        uint32_t threadgroup
        uint32_t writes
        uint32_t size
        uint32_t alignment
        uint32_t members

    ctypedef struct ob_member:
        char name[64]
        uint32_t offset
        uint32_t type
        uint32_t count
        uint32_t size
        uint32_t writes

    ctypedef struct ob_constant:
        char name[64]
        uint32_t index
        uint32_t type
        uint32_t required

    ctypedef struct ob_constant_value:
        uint32_t index
        uint32_t type
        const void *value

    ctypedef struct ob_binding:
        ob_buffer *buffer
        uint64_t offset
        uint64_t length
        uint32_t slot

    ctypedef struct ob_use:
        ob_buffer *buffer
        uint32_t writes

    ctypedef struct ob_transfer:
        ob_buffer *buffer
        uint64_t offset
        uint64_t length
        void *host

    ctypedef struct ob_dispatch:
        ob_kernel *kernel
        const char *label
        const ob_binding *bindings
        uint32_t binding_count
        const void *bytes
        uint32_t byte_count
        uint32_t bytes_slot
        const char *rows_member
        uint32_t threadgroups[3]
        uint32_t grid[3]
        uint32_t threads[3]
        const uint32_t *threadgroup_memory
        uint32_t threadgroup_memory_count
        uint32_t rows_per_threadgroup
        uint32_t leading
        const ob_use *uses
        uint32_t use_count
        ob_buffer *indirect
        uint64_t indirect_offset

    ctypedef struct ob_rows:
        uint32_t all
        uint32_t leading

    ctypedef struct ob_run_times:
        double encode_seconds
        double device_start
        double device_end

    void ob_release(void *handle)
    ob_device *ob_device_open(const char *name, const ob_device_options *options, ob_error *error)
    int ob_device_describe(ob_device *device, ob_device_info *info, ob_error *error)
    int ob_device_count(size_t *count, ob_error *error)
    int ob_device_name(size_t index, char *name, size_t length, ob_error *error)
    int ob_device_problem(const char *name, char *problem, size_t length, ob_error *error)
    ob_library *ob_library_open(ob_device *device, const char *path, ob_error *error)
    ob_library *ob_library_compile(ob_device *device, const char *source, ob_error *error)
    int ob_library_use_archive(ob_device *device, ob_library *library, const char *path, ob_error *error)
    int ob_library_save_archive(ob_library *library, ob_error *error)
    int ob_library_archive_counts(ob_library *library, ob_archive_counts *counts, ob_error *error)
    int ob_library_count(ob_library *library, size_t *count, ob_error *error)
    int ob_library_name(ob_library *library, size_t index, char *name, size_t length, ob_error *error)
    ob_kernel *ob_kernel_find(ob_library *library, const char *name, ob_error *error)
    int ob_kernel_constant_count(ob_library *library, const char *name, size_t *count, ob_error *error)
    int ob_kernel_constant(ob_library *library, const char *name, size_t position, ob_constant *constant,
                           ob_error *error)
    ob_kernel *ob_kernel_specialise(ob_library *library, const char *name, const ob_constant_value *values,
                                    size_t count, ob_error *error)
    size_t ob_kernel_arguments(ob_kernel *kernel)
    int ob_kernel_argument(ob_kernel *kernel, size_t index, ob_argument *argument, ob_error *error)
    int ob_kernel_member(ob_kernel *kernel, size_t argument, size_t index, ob_member *member, ob_error *error)
    uint32_t ob_kernel_threads(ob_kernel *kernel)
    uint32_t ob_kernel_width(ob_kernel *kernel)
    int ob_kernel_native(ob_kernel *kernel)
    ob_buffer *ob_buffer_new(ob_device *device, uint64_t length, int storage, ob_error *error)
    ob_buffer *ob_buffer_wrap(ob_device *device, void *memory, uint64_t length, ob_error *error)
    void *ob_buffer_contents(ob_buffer *buffer)
    uint64_t ob_buffer_length(ob_buffer *buffer)
    uint64_t ob_buffer_address(ob_buffer *buffer)
    int ob_buffer_write(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error)
    int ob_buffer_read(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error)
    int ob_buffer_upload(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error)
    ob_chain *ob_chain_new(ob_device *device, const ob_dispatch *dispatches, size_t count,
                           const char *label, ob_error *error)
    size_t ob_chain_count(ob_chain *chain)
    int64_t ob_chain_conflict(ob_chain *chain, size_t index)
    ob_run *ob_chain_commit(ob_chain *chain, ob_rows rows, ob_error *error)
    int ob_chain_trace(ob_chain *chain, ob_rows rows, double *starts, double *ends, ob_error *error)
    int ob_run_wait(ob_run *run, ob_error *error)
    int ob_run_findings(ob_run *run, size_t *count, ob_error *error)
    int ob_run_finding(ob_run *run, size_t index, const char *name, char *text, size_t length, ob_error *error)
    int ob_run_done(ob_run *run)
    void ob_run_describe(ob_run *run, ob_run_times *times)

cdef extern from "core/OBFileMaps.h" nogil:
    ctypedef struct ob_file_map

    ob_file_map *ob_file_map_watch(const void *address, size_t length, const char *name, int exit_code)
    void ob_file_map_forget(ob_file_map *map)

cdef extern from "core/OBHazard.h" nogil:
    ctypedef struct OBAccess:
        uint64_t resource
        uint64_t begin
        uint64_t end
        bint writes

    size_t OBPlanBarriers(const OBAccess *accesses, const size_t *first, size_t count, ptrdiff_t *conflicts)

cdef extern from "args.h":
    enum:
        OB_LINEAR_OUTPUTS
        OB_LINEAR_ROWS
        OB_STAGE_THREADS
        OB_ROW_THREADS
        OB_ROW_GATE_UP_THREADS
        OB_ROW_BUSY
        OB_ROW_TILES
        OB_ROW_EXPERTS
        OB_ROW3_TILES
        OB_ROW_GATE_UP_TILES
        OB_ROW_CHUNKS
        OB_ROW_SHARES
        OB_ROW_TOP_K
        OB_ROPE_HEADS
        OB_ATTENTION_TILE
        OB_ATTENTION_HEAD_DIM
        OB_ATTENTION_V_DIM
        OB_ATTENTION_PART
        OB_ATTENTION_PARTS
        OB_ATTENTION_PART_END
        OB_TENSOR_ATTENTION_HEADS
        OB_TENSOR_ATTENTION_PART
        OB_NORM_HEAD
        OB_NORM_ALL
        OB_CACHE_BLOCK
        OB_CACHE_GROUP
        OB_F32
        OB_F16
        OB_BF16
        OB_CONV_CHANNELS
        OB_DELTA_VALUES
        OB_GATED_HEADS
        OB_MAX_TOP_K
        OB_NOT_STORED
        OB_STORED_F32
        OB_STORED_F16
        OB_STORED_BF16
        OB_SILU
        OB_GELU_TANH
        OB_SWIGLU_OAI
        OB_GATE_ALONE
        OB_RELU
        OB_CHUNKED
        OB_TILED
        OB_SAMPLE_PART
        OB_SAMPLE_BLOCK
        OB_SAMPLE_LIST
        OB_MAX_LOGPROBS
        OB_NONE
