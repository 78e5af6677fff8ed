// The C face of the core, all that Cython sees: opaque handles, a status, a message.
//
// Every function that can fail takes an ob_error, which is not NULL, and returns NULL or a negative status after
// filling it; what it was to fill in is then zero or empty. The others read what is there and cannot fail. No
// Objective-C exception passes this line, and none is lost: where memory ran out, too, the caller gets an error. A handle is owned by whoever got it and
// goes back with ob_release; handles may be used and released on any thread. Strings are UTF-8;
// those returned as const char * live as long as their handle.
#ifndef ONEBUF_H
#define ONEBUF_H

#include <stddef.h>
#include <stdint.h>

typedef struct ob_device ob_device;
typedef struct ob_library ob_library;
typedef struct ob_kernel ob_kernel;
typedef struct ob_buffer ob_buffer;
typedef struct ob_chain ob_chain;
typedef struct ob_run ob_run;

enum { OB_DEVICE = 1, OB_COMPILE, OB_ARGUMENT, OB_MEMORY, OB_RUN };

// Where a buffer is: host and device see shared memory. Only the device sees private memory, except where it has no
// memory of its own (`unified`): what is asked for as private is shared there.
enum { OB_SHARED, OB_PRIVATE };

typedef struct {
    int code;            // one of the above
    char message[4096];  // one line first; a compiler's messages may follow
} ob_error;

// How a device is opened. All zero: as OB_THREADS and OB_ISA say, else as the device chooses.
typedef struct {
    uint32_t threads;    // worker threads; a device without worker threads ignores them
    uint32_t schedules;  // orders of threads to try for each dispatch, on a device that checks kernels
    const char *isa;     // instruction set, on a device that is a processor; NULL: not chosen
} ob_device_options;

typedef struct {
    char name[32];  // "cpu", "metal"
    char hardware[128];
    uint32_t threads;         // worker threads, 0 without
    uint64_t max_buffer;      // bytes
    uint64_t allocated;       // bytes in buffers now
    int64_t command_buffers;  // that reached the queue so far; -1 where it does not count
    char isa[16];             // instruction set of a device that is a processor; empty for others
    uint32_t schedules;       // orders of threads tried for each dispatch; 0 for a device that does not check kernels
    uint32_t unified;         // 1 if the device's memory is the host's
    uint64_t working_set;     // bytes that may be in use on the device at once without loss of speed
    uint64_t memory;          // bytes that the device has of its own, 0 where it does not tell
    uint64_t transfers;       // command buffers among the above that only moved bytes of the host
    uint64_t resident;        // bytes that are kept within the device's reach from run to run, where the system can
    uint32_t archives;        // 1 if compiled kernels may be kept in files
    uint32_t cores;           // of a GPU, each of which has a threadgroup of its own resident; 0 where it does not tell
} ob_device_info;

typedef struct {
    char name[64];
    uint32_t index;        // of [[buffer(n)]] or [[threadgroup(n)]]
    uint32_t threadgroup;  // 1 for threadgroup memory
    uint32_t writes;       // 1 unless const
    uint32_t size, alignment;
    uint32_t members;  // of a struct
} ob_argument;

// `size` is of an element that a pointer points to, 0 for a member that is no pointer; `writes` is 1 unless that is const.
typedef struct {
    char name[64];
    uint32_t offset;
    uint32_t type;   // MTLDataType, of an element where it is an array
    uint32_t count;  // of an array, else 1
    uint32_t size;
    uint32_t writes;
} ob_member;

// A function constant that a kernel uses; `required` unless the shader asks whether it is defined.
typedef struct {
    char name[64];
    uint32_t index;
    uint32_t type;  // MTLDataType
    uint32_t required;
} ob_constant;

// The value of the function constant at an index: as many bytes as its type has.
typedef struct {
    uint32_t index;
    uint32_t type;  // MTLDataType
    const void *value;
} ob_constant_value;

// A buffer argument. `length` bytes from `offset` are what the dispatch touches; hazards are found on that range.
typedef struct {
    ob_buffer *buffer;
    uint64_t offset, length;
    uint32_t slot;  // n of [[buffer(n)]]
} ob_binding;

// A buffer that a dispatch reaches by its address, which stands in an argument buffer. Hazards are found on all of it.
typedef struct {
    ob_buffer *buffer;
    uint32_t writes;
} ob_use;

// `length` bytes of a buffer from `offset` on, and the host's memory that gives or takes them.
typedef struct {
    ob_buffer *buffer;
    uint64_t offset, length;
    void *host;
} ob_transfer;

// One dispatch of a chain as the caller states it; everything is copied or retained.
typedef struct {
    ob_kernel *kernel;
    const char *label;
    const ob_binding *bindings;
    uint32_t binding_count;
    const void *bytes;  // the struct argument, or NULL
    uint32_t byte_count, bytes_slot;
    const char *rows_member;             // the uint in it that holds a run's number of rows, or NULL
    uint32_t threadgroups[3];            // the second counts tiles of rows where rows_per_threadgroup is not 0
    uint32_t grid[3];                    // threads in all, which then count instead; all 0: threadgroups do
    uint32_t threads[3];                 // of a threadgroup; all 0: as many as the kernel allows
    const uint32_t *threadgroup_memory;  // bytes for [[threadgroup(n)]] at n, each a multiple of 16
    uint32_t threadgroup_memory_count;
    uint32_t rows_per_threadgroup;  // 0: the grid does not go by rows
    uint32_t leading;               // 1: it goes by the leading rows of a run
    const ob_use *uses;
    uint32_t use_count;
    ob_buffer *indirect;  // has three uint32 counts of threadgroups at the offset, which count instead; NULL: not so
    uint64_t indirect_offset;
} ob_dispatch;

// The rows of a run. Dispatches go by all of them, or by the first few, which lead; never by more than they were made
// for.
typedef struct {
    uint32_t all;      // 0: as many as each dispatch was made for
    uint32_t leading;  // 0: as many as all
} ob_rows;

typedef struct {
    double encode_seconds;            // host
    double device_start, device_end;  // seconds of the device's clock
} ob_run_times;

void ob_release(void *handle);

// `options` may be NULL, which is all zero. An option that the device lacks is refused.
ob_device *ob_device_open(const char *name, const ob_device_options *options, ob_error *error);
int ob_device_describe(ob_device *device, ob_device_info *info, ob_error *error);

// The devices of this machine by the names that ob_device_open takes. Nothing is opened.
int ob_device_count(size_t *count, ob_error *error);
int ob_device_name(size_t index, char *name, size_t length, ob_error *error);

// Why this machine has no device of a name, as one line; empty where nothing is known of that.
int ob_device_problem(const char *name, char *problem, size_t length, ob_error *error);

ob_library *ob_library_open(ob_device *device, const char *path, ob_error *error);
ob_library *ob_library_compile(ob_device *device, const char *source, ob_error *error);
int ob_library_count(ob_library *library, size_t *count, ob_error *error);
int ob_library_name(ob_library *library, size_t index, char *name, size_t length, ob_error *error);

// How many of a library's kernels so far were in its archive, and how many had to be compiled; both 0 without one.
typedef struct {
    uint64_t found, compiled;
} ob_archive_counts;

// From now on kernels come from the archive in a file, where it has them; the others are compiled and added to it. The
// file may be missing, damaged or of another version: it is then as if it were empty. Nothing happens where the device has
// no archives.
int ob_library_use_archive(ob_device *device, ob_library *library, const char *path, ob_error *error);
// Writes the file, where something was added; -1 and the error where it cannot be written.
int ob_library_save_archive(ob_library *library, ob_error *error);
int ob_library_archive_counts(ob_library *library, ob_archive_counts *counts, ob_error *error);

ob_kernel *ob_kernel_find(ob_library *library, const char *name, ob_error *error);

// The function constants that a kernel uses, by index: how many, and each. 0, or -1 and the error.
int ob_kernel_constant_count(ob_library *library, const char *name, size_t *count, ob_error *error);
int ob_kernel_constant(ob_library *library, const char *name, size_t position, ob_constant *constant, ob_error *error);

// The kernel with values for its function constants; an error names those that it lacks.
ob_kernel *ob_kernel_specialise(ob_library *library, const char *name, const ob_constant_value *values, size_t count,
                                ob_error *error);

size_t ob_kernel_arguments(ob_kernel *kernel);
int ob_kernel_argument(ob_kernel *kernel, size_t index, ob_argument *argument, ob_error *error);
int ob_kernel_member(ob_kernel *kernel, size_t argument, size_t index, ob_member *member, ob_error *error);
uint32_t ob_kernel_threads(ob_kernel *kernel);  // of the largest threadgroup
uint32_t ob_kernel_width(ob_kernel *kernel);    // threads of a simdgroup
int ob_kernel_native(ob_kernel *kernel);  // 1 if code written by hand for the processor runs instead of the shader

// Zeroed memory of the device, shared or private, or the caller's own (page-aligned, not copied, to outlive the handle
// and every chain that uses it). The contents of private memory are NULL to the host.
ob_buffer *ob_buffer_new(ob_device *device, uint64_t length, int storage, ob_error *error);
ob_buffer *ob_buffer_wrap(ob_device *device, void *memory, uint64_t length, ob_error *error);
void *ob_buffer_contents(ob_buffer *buffer);
uint64_t ob_buffer_length(ob_buffer *buffer);

// Returns the address that stands for the buffer in an argument buffer, or 0 if the device gives none.
uint64_t ob_buffer_address(ob_buffer *buffer);

// Moves bytes between the host and buffers of the device; all transfers of a call share one command buffer, or need
// none where the host sees the buffers. 0, or -1 and the error. A write does not wait: what was committed before may
// still see the old bytes, and what is committed later sees the new ones. A read waits. An upload is a write whose
// bytes are parts of one memory map; the device reads them there, without a copy on the way, and the call waits.
int ob_buffer_write(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error);
int ob_buffer_read(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error);
int ob_buffer_upload(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error);

ob_chain *ob_chain_new(ob_device *device, const ob_dispatch *dispatches, size_t count, const char *label,
                       ob_error *error);
size_t ob_chain_count(ob_chain *chain);
int64_t ob_chain_conflict(ob_chain *chain, size_t index);  // see OBPlanBarriers
ob_run *ob_chain_commit(ob_chain *chain, ob_rows rows, ob_error *error);
int ob_chain_trace(ob_chain *chain, ob_rows rows, double *starts, double *ends, ob_error *error);

int ob_run_wait(ob_run *run, ob_error *error);
// The findings of a device that validates shaders in a run that has completed, and what is known of one
// finding under a name; the latter returns 1 where that is nothing.
int ob_run_findings(ob_run *run, size_t *count, ob_error *error);
int ob_run_finding(ob_run *run, size_t index, const char *name, char *text, size_t length, ob_error *error);
int ob_run_done(ob_run *run);
void ob_run_describe(ob_run *run, ob_run_times *times);

#endif
