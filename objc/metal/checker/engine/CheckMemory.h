// Memory that kernels reach, each four bytes of it with a cell that says who wrote and who read it.
//
// A binding has addresses of its own: the pages of its buffer are mapped once more, alone in a wide
// window of address space. So an address says through which argument an access goes, and nothing else
// lies within reach of a wrong one.
#ifndef CHECK_MEMORY_H
#define CHECK_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHECK_DEVICE, CHECK_THREADGROUP, CHECK_SPACES };
enum { CHECK_TOLD = 4 };  // a finding told that they were read and never written

// An access as the cells remember it; all zero: none.
typedef struct check_record {
    uint32_t segment;  // the threadgroup, numbered over all dispatches
    uint32_t pc;       // from the start of the library
    uint16_t epoch;    // barriers of the threadgroup so far that order this memory
    uint16_t step;     // and of the simdgroup since
    uint16_t thread;   // of the threadgroup
    uint8_t mask;      // which of the four bytes
    uint8_t atomic;
} check_record;

typedef struct check_cell {
    check_record writes[2];  // two, for halves of the four bytes
    check_record reads[2];   // two that no barrier orders, of threads as far apart as there were
} check_cell;

typedef struct check_memory {
    char *bytes;   // the host's view
    char *mirror;  // what kernels get instead, for memory that the host brought; else NULL
    size_t length;
    size_t shadowed;  // bytes that there are cells for
    int file;         // that the pages belong to; -1: they have none
    check_cell *cells;
    uint8_t *written;  // a bit for each of four bytes; and CHECK_TOLD higher, one for bytes that only count as written
    uint8_t *touched;  // what is known of each page; 0: it had no memory when last looked at
    size_t pages;
    char *apart;    // its address in argument buffers, with nothing near it; NULL: nobody has asked
    uint64_t seen;  // the command buffer that has taken over what the host wrote
} check_memory;

// Zeroed bytes that nothing has written; NULL when there is no memory left. With `host`, memory of the
// caller's, all of it written.
check_memory *check_memory_new(size_t length, void *host);
void check_memory_free(check_memory *memory);

// Returns the address by which argument buffers reach it, which is the same each time, or NULL when it cannot be mapped.
// Any thread may ask.
char *check_memory_apart(check_memory *memory);

// Returns whether an address is in the window around that one.
bool check_memory_is_near(const check_memory *memory, uint64_t address);

// Returns the bytes that kernels see, at an address that the host may use.
static inline char *check_memory_view(const check_memory *memory) {
    return memory->mirror != NULL ? memory->mirror : memory->bytes;
}

// Cells for memory without pages of its own, such as a threadgroup's.
bool check_memory_shadow(check_memory *memory, size_t length);
void check_memory_unshadow(check_memory *memory);
void check_memory_forget(check_memory *memory);

// Before and after a command buffer's use: what the host wrote counts as written, and sees what was written.
void check_memory_take_over(check_memory *memory, uint64_t command_buffer);
void check_memory_give_back(check_memory *memory, size_t offset, size_t length);

enum { CHECK_WINDOW_BITS = 34 };

// Address space of `count` windows of 2^34 bytes, none of it usable yet.
typedef struct check_windows {
    pthread_mutex_t lock;  // any thread may drop what is mapped of a memory while another's dispatch is placed
    char *base;
    uint32_t count;
    struct check_mapping {
        const check_memory *memory;
        size_t first, length;  // pages in bytes
    } *mapped;
} check_windows;

bool check_windows_make(check_windows *windows, uint32_t count);
void check_windows_free(check_windows *windows);

// Where bytes from `offset` on appear in window `index`; NULL when they cannot be mapped.
char *check_windows_map(check_windows *windows, uint32_t index, const check_memory *memory, size_t offset,
                        size_t length);

// Fresh memory in the middle of a window.
char *check_windows_fill(check_windows *windows, uint32_t index, size_t length);

// Fresh memory `offset` bytes behind the middle, kept once it is there.
char *check_windows_piece(check_windows *windows, uint32_t index, size_t offset, size_t length);

// Forgets what is mapped of a memory that goes.
void check_windows_drop(check_windows *windows, const check_memory *memory);

#endif
