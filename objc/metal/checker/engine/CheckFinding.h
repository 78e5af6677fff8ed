// Findings of the checker: mistakes of kernels, each kind once for each place, with a count.
#ifndef CHECK_FINDING_H
#define CHECK_FINDING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    CHECK_OUT_OF_BOUNDS,
    CHECK_UNINITIALISED,
    CHECK_RACE,                // within a threadgroup
    CHECK_RACE_OF_GROUPS,      // between threadgroups of a dispatch
    CHECK_RACE_OF_DISPATCHES,  // between dispatches with no barrier between them
    CHECK_READ_ONLY,
    CHECK_DIVERGENT_BARRIER,
    CHECK_INACTIVE_LANE,
    CHECK_MISALIGNED,
    CHECK_NO_END,
    CHECK_DIVISION,
    CHECK_ORDER_DEPENDENT,
    CHECK_NAN,
    CHECK_STACK_OVERFLOW,
    CHECK_KINDS,
} check_kind;

enum { CHECK_NULL = 1, CHECK_NOT_USED, CHECK_COUNTS };

// One of the two accesses, or the only one.
typedef struct check_side {
    const char *kernel, *label, *library;  // of the dispatch; NULL where there is no such side
    const char *file;                      // where it is known without debug information
    uint32_t line;
    uint32_t pc;  // else this tells, from the start of the library; 0: unknown
    bool write, atomic;
    bool code;                     // a place that the thread came to, and no access
    uint32_t thread[3], group[3];  // in the threadgroup, and of it in the grid
} check_side;

typedef struct check_finding {
    check_kind kind;
    check_side here, there;
    char name[64];      // of the argument or variable
    int32_t index;      // of its slot; -1: a threadgroup variable or none
    bool threadgroup;   // memory
    bool lanes;         // both sides, every time, are lanes of one simdgroup
    bool alone;         // that is the only one of its threadgroup
    int pointer;        // what is wrong with one that an access went through, or with counts: CHECK_NULL and so on
    bool graded, idle;  // a read of what nothing wrote was tried with other values; nothing depends on them, every time
    bool same_value;    // both sides, every time, write the value that is there
    uint64_t offset;    // bytes from the start of what is bound
    uint64_t length;    // bytes bound
    uint32_t size;      // bytes accessed
    char text[192];     // what else there is to say
    uint64_t count;
    const void *owner;  // the command buffer
} check_finding;

typedef struct check_findings {
    check_finding *list;
    size_t count, room;
    bool quiet;            // none is added for now
    bool lost;             // there was no memory for a finding, or to look for one
    pthread_mutex_t lock;  // one command buffer may run while another's are taken
} check_findings;

// Adds a finding, or counts an equal one up.
void check_findings_add(check_findings *findings, const check_finding *finding);

// Says of reads of what nothing wrote, at a place in the code, whether nothing depends on the value.
void check_findings_grade(check_findings *findings, const void *owner, uint32_t pc, bool idle);

bool check_findings_any(check_findings *findings, const void *owner);

// Notes that there was no memory to find what there may be. The second gives the note back, once.
void check_findings_lose(check_findings *findings);
bool check_findings_lost(check_findings *findings);

// Removes those of an owner and returns them; free() the result. NULL with a count when there is no memory: they stay.
check_finding *check_findings_take(check_findings *findings, const void *owner, size_t *count);

const char *check_kind_name(check_kind kind);
bool check_warns(const check_finding *finding);
const char *check_remedy(const check_finding *finding);

#endif
