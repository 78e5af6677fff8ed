// The state of the dispatch that runs, which the parts of the checker share.
#ifndef CHECK_STATE_H
#define CHECK_STATE_H

#include "CheckFiber.h"
#include "CheckOutputs.h"
#include "CheckRun.h"

enum {
    CHECK_IN_FLIGHT = 3,   // threadgroups at once
    CHECK_VARIABLES = 64,  // of a threadgroup, its [[threadgroup(n)]] arguments included
    CHECK_THREADGROUP_MEMORY = 32768,
    CHECK_SIMDGROUPS = CHECK_MAX_THREADS / CHECK_WIDTH,
    CHECK_READY_ROOM = 2 * CHECK_IN_FLIGHT * CHECK_MAX_THREADS,
    CHECK_DEPTH = 64,  // calls within calls, and loops within loops, that are told apart
    CHECK_MANY_SPINS = 64,
    CHECK_MAX_SPINS = 1 << 17,
    CHECK_MAX_REPEATS = 1 << 24,
    CHECK_VARIABLE_BITS = 24,  // address space of each variable in its threadgroup's window
};

enum { CHECK_FIRST_COME, CHECK_LAST_COME };
typedef enum { CHECK_READY, CHECK_AT_SIMD, CHECK_AT_BARRIER, CHECK_DONE } check_waiting;

typedef struct check_group check_group;

// A step on the way from a kernel to where its thread waits: a loop that it is in, or a call.
typedef struct check_step {
    const void *place;  // in the code
    uint32_t turn;      // of a loop; 0: a call or a function
    uint32_t at;        // the statement in a turn or function; 0: a call
} check_step;

// A thread of a kernel.
typedef struct check_fiber {
    check_context context;
    metallib_launch launch;
    metallib_thread thread;
    check_group *group;
    check_waiting waiting;
    metallib_place at;            // where it waits
    check_step way[CHECK_DEPTH];  // that led there, from the kernel on
    uint32_t depth;
    metallib_loop *loops;  // the innermost that it is in
    uint32_t kind;         // of simdgroup function; for a barrier its flags
    const void *value;     // what it gives
    uint32_t size;
    uint32_t active;                // which lanes did
    const void *spun_pc, *spun_at;  // its last atomic
    uint64_t spun_value;            // and what was there
    uint32_t spins;                 // how often the same was there before
    uint32_t turns;                 // atomics in all
    bool released;                  // a fence came before its next writes to atomics
    uintptr_t heard;                // the atomic that it read last
} check_fiber;

// A `threadgroup` variable or argument.
typedef struct check_variable {
    const char *name;
    metallib_place at;
    char *address;
    uint32_t size;
    int32_t index;  // of its slot, -1 for a variable
    check_memory shadow;
} check_variable;

typedef struct check_simdgroup {
    uint16_t step[CHECK_SPACES];
    uint16_t live, waiting;  // lanes that have not ended, and of them those that wait
    // The values that the lanes gave last. All lanes wait when it changes, so each has seen what it was to see.
    _Alignas(16) char values[CHECK_WIDTH * METALLIB_VALUE];
} check_simdgroup;

// An atomic passes this on from whoever wrote it after a fence: up to where that threadgroup's accesses
// are seen, with all of the thread's own.
typedef struct check_message {
    uintptr_t atomic;
    uint32_t segment;
    uint16_t epoch, thread;
} check_message;

// A threadgroup in flight.
struct check_group {
    uint32_t segment;
    uint32_t index;  // of its window
    uint32_t place[3];
    uint32_t threads, live, waiting, at_barrier, ended;
    bool stopped;
    uint16_t epoch[CHECK_SPACES];
    check_simdgroup simdgroups[CHECK_SIMDGROUPS];
    uint32_t message_count, message_room;  // what it has heard of other threadgroups
    check_message *messages;
    uint32_t variable_count;
    uint32_t used;  // bytes of threadgroup memory
    check_variable variables[CHECK_VARIABLES];
    void *arguments[METALLIB_MAX_THREADGROUP];
    check_fiber fibers[CHECK_MAX_THREADS];
};

// A dispatch of the present phase, to say of a segment which threadgroup it was.
typedef struct check_past {
    uint32_t first;  // segment
    const char *kernel, *label, *library;
    uint32_t threadgroups[3], threads[3];
} check_past;

// A write that races with others: whether it changes what is there shows when it is done.
enum { CHECK_PENDING = 8 };
typedef struct check_pending {
    check_finding findings[CHECK_PENDING];
    uint32_t count;
    const void *address;
    uint32_t size;
    char before[16];
} check_pending;

// A byte that a trial changed, and what was there.
typedef struct check_undo {
    char *address, value;
} check_undo;

// Places of a dispatch that read what nothing wrote, and a run of it with other values there.
enum { CHECK_SITES = 8 };
typedef struct check_trial {
    uint32_t sites[CHECK_SITES];  // in the code
    uint32_t site_count;
    bool too_many;  // to try them
    bool on;
    uint32_t site;            // that reads another value
    int pattern;              // of its bytes
    uint64_t hash, accesses;  // that tell one run from another
    uint64_t budget;          // of accesses
    check_undo *undo;
    uint32_t undone;
} check_trial;

struct check_state {
    check_windows windows;
    check_stacks stacks;
    check_findings findings;
    check_pending pending;  // of the thread that runs
    check_trial trial;
    uint32_t schedules;
    uint64_t random;
    uint64_t command_buffers;  // so far

    check_group *groups;  // CHECK_IN_FLIGHT of them
    check_past *past;
    size_t past_count, past_room;
    check_message *messages;  // sent in this order of threads
    uint32_t message_count, message_room;
    uint32_t next_segment;
    uint32_t phase_segment;     // the first of the phase
    uint32_t dispatch_segment;  // of the dispatch, in any order of threads
    uint32_t run_segment;       // of the dispatch in this order

    const check_dispatch *dispatch;
    const metallib_launch *launch;
    char *addresses[METALLIB_MAX_BUFFERS];  // of the bindings, by position
    int8_t slots[METALLIB_MAX_BUFFERS];     // window to binding, -1 for none
    uint32_t next_group, group_count;       // threadgroups to start
    bool failed;

    // The scheduler.
    check_context host;
    check_fiber *running;
    const void *last_pc, *last_address;  // of its last access that is no atomic
    uint32_t repeats;                    // of that alone
    check_fiber **ready;
    uint32_t ready_begin, ready_end;
    uint32_t order;  // CHECK_FIRST_COME, CHECK_LAST_COME, or the number of a random one
};

// The state of the dispatch that this system thread runs. Each access reads it: where the C library keeps room for a few
// such variables of libraries that are opened late, it is found without a call.
#ifdef __GLIBC__
#define CHECK_AT_ONCE __attribute__((tls_model("initial-exec")))
#else
#define CHECK_AT_ONCE
#endif
extern __thread check_state *check_current CHECK_AT_ONCE;

// Notes which dispatch the segments from `first` on belong to. False when there is no memory left.
bool check_note_past(check_state *state, uint32_t first, const uint32_t threadgroups[3], const uint32_t threads[3]);

// The thread that runs gives way. It has said before what it waits for.
void check_wait(check_state *state);

// Stops the threadgroup of the thread that runs; does not return.
void check_stop(check_state *state) __attribute__((noreturn));

// Runs all threadgroups of the dispatch in one order, which state->order names.
void check_run_threads(check_state *state);

// This does the same in order `number`, as a run of its own. It returns false if a thread had to be stopped.
bool check_run_order(check_state *state, uint32_t number);

// A read of what nothing wrote, at a place in the code; and all of them tried with other values when the dispatch is done.
void check_note_unwritten(check_state *state, uint32_t pc);
void check_try_values(check_state *state, check_outputs *before);

// In a trial: each access, and each read of bytes of a cell that nothing wrote.
void check_trial_access(check_state *state, const void *address, uint32_t flags, uint32_t pc);
void check_trial_read(check_state *state, char *bytes, uint8_t mask, uint32_t pc);

uint32_t check_random(check_state *state, uint32_t below);

// Notes the way from the kernel to where the running thread is: `innermost` is the frame of whoever calls this.
void check_note_way(const check_state *state, const void *innermost);

// Which of two waiting threads is behind the other, below 0: the first; 0: they are at one place in the same turns.
int check_order_of(const check_fiber *a, const check_fiber *b);

// How two threads differ that wait at a barrier of one line: by a turn of a loop around it, or by a statement on the way.
typedef enum { CHECK_SAME, CHECK_OTHER_TURN, CHECK_OTHER_STATEMENT } check_difference;
check_difference check_difference_of(const check_fiber *a, const check_fiber *b);

// From one to the other, a thread whose stack overflows is stopped with a finding. False: there was no memory.
bool check_watch_stacks(void);
void check_leave_stacks(void);

// The running thread has turned in loops for long, and has waited for nobody. Does not return.
void check_endless(void);

// Fences and atomics: what one threadgroup may rely on of another.
void check_fence(uint32_t flags, uint32_t order);
void check_atomic(check_state *state, uintptr_t address, uint32_t flags);
bool check_heard_of(const check_group *group, const check_record *record);

// A finding about the running thread, ready to be filled in.
check_finding check_finding_here(check_state *state, check_kind kind);
void check_name_finding(check_finding *finding, const check_binding *binding);
void check_side_of_fiber(check_side *side, const check_state *state, const check_fiber *fiber);

// The same for an access in the past.
void check_side_of_record(check_side *side, const check_state *state, const check_record *record);

// Keeps a finding about two writes until it shows whether the second, which the running thread is about to make, changes
// what is there. False where it cannot wait.
bool check_defer(check_state *state, const check_finding *finding, const void *address, uint32_t size);

// Adds the findings that wait for their write to be done. The thread has made no other access since.
void check_settle(check_state *state);

// Names the bindings that argument buffers point to.
void check_name_reached(check_dispatch *dispatch);

// The one of them that an address belongs to; NULL: none.
const check_binding *check_reached(const check_dispatch *dispatch, uintptr_t address);

// Says what is wrong with an address that belongs to nothing: a null pointer, or memory that useResource does not name.
void check_explain_wild(const check_dispatch *dispatch, check_finding *finding, const void *address);

void check_access(const void *address, uint32_t size, uint32_t flags, const void *pc);
void check_misaligned(const void *address, uint32_t alignment, const char *type, metallib_place at);
void check_index(const char *type, int64_t index, metallib_place at);
void check_division(metallib_place at);

void *check_variable_at(const char *name, uint32_t size, uint32_t alignment, metallib_place at);

// Adds a variable to a threadgroup; NULL if there is no room.
check_variable *check_add_variable(check_state *state, check_group *group, const char *name, uint32_t size,
                                   metallib_place at, int32_t index);

#endif
