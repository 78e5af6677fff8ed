// Running a dispatch thread by thread and watching what its kernel does.
//
// Threads are fibers of one system thread. Several threadgroups are in flight at once; which thread
// goes on is drawn from the schedule's number. A thread runs until it waits for others.
#ifndef CHECK_RUN_H
#define CHECK_RUN_H

#include "CheckFinding.h"
#include "CheckMemory.h"
#include "metal/abi/metallib_checker.h"
#include "metal/base/OBMRecording.h"

enum { CHECK_WIDTH = 32, CHECK_MAX_THREADS = 1024, CHECK_MAX_SCHEDULES = 1000 };

typedef struct check_state check_state;

// The code of a kernel on this device: obm_kernel's `code` points to it.
typedef struct check_code {
    metallib_entry entry;
    const char *library;          // the file that it is in
    const char *base;             // where that is loaded
    metallib_loop **loops;        // the innermost loop of the thread that runs; NULL: the code does not tell
    uint32_t *turns;              // of all its loops, since it waited last; NULL likewise
    const metallib_slots *slots;  // of its argument buffers; NULL: it has none
} check_code;

enum { CHECK_NO_INDEX = METALLIB_MAX_BUFFERS };

// A buffer, or bytes, that are bound to one argument; or a buffer that an argument buffer may point to.
typedef struct check_binding {
    const char *name;      // of the argument, or of the member that points to it
    uint32_t index;        // n of [[buffer(n)]], of the struct for a member; CHECK_NO_INDEX: not known
    uint32_t type;         // MTLDataType of its elements; 0: not known
    bool writes;           // the kernel may
    char reached[64];      // the name of a member
    check_memory *memory;  // NULL: `bytes` are the constant itself
    const char *bytes;
    size_t offset, length;
} check_binding;

// A recorded dispatch while it runs, with what the checker knows of it.
typedef struct check_dispatch {
    check_state *state;
    const obm_dispatch *recorded;
    const metallib_signature *signature;
    const check_code *code;
    const void *owner;        // the recording, to which findings belong
    uint64_t command_buffer;  // its number
    uint32_t counts_segment;  // that stands for reading the counts of an indirect dispatch; 0: it is none
    uint32_t argument_count;  // the bindings of arguments come first, then what argument buffers may point to
    uint32_t binding_count;
    check_binding *bindings;
} check_dispatch;

check_state *check_state_new(void);
void check_state_free(check_state *state);

check_findings *check_state_findings(check_state *state);
void check_state_forget(check_state *state, const check_memory *memory);

// How many orders of threads each dispatch runs in; they must give one result.
uint32_t check_state_schedules(const check_state *state);
void check_state_set_schedules(check_state *state, uint32_t count);

// A number that no other command buffer of this state has. From any thread.
uint64_t check_new_command_buffer(check_state *state);

// A new phase: barriers stand between all earlier dispatches and those to come.
void check_begin_phase(check_state *state);

// Runs a dispatch of at least one threadgroup. False if a thread had to be stopped; a finding says why.
bool check_run(check_dispatch *dispatch);

// Before a dispatch runs, this reads its counts of threadgroups from memory. It returns false when no memory is left.
bool check_indirect(check_dispatch *dispatch, check_memory *memory, size_t offset);

// It cannot run, because the counts there are too large.
void check_indirect_too_many(check_dispatch *dispatch, const uint32_t counts[3], const check_memory *memory,
                             size_t offset);

extern const metallib_checker check_calls;

#endif
