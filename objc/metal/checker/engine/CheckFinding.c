#include "CheckFinding.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 1000 };

static bool same_place(const check_side *a, const check_side *b) {
    return a->pc == b->pc && a->line == b->line && a->kernel == b->kernel && a->write == b->write;
}

static bool same(const check_finding *a, const check_finding *b) {
    return a->kind == b->kind && a->owner == b->owner && a->index == b->index && strcmp(a->name, b->name) == 0 &&
           same_place(&a->here, &b->here) && same_place(&a->there, &b->there);
}

// The worse of two shows: a race of simdgroups needs more to mend it than one of lanes, and different values do harm.
static void count_up(check_finding *known, const check_finding *finding) {
    uint64_t count = known->count + 1;
    bool same_value = known->same_value && finding->same_value;
    if ((known->lanes && !finding->lanes) || (known->same_value && !finding->same_value)) {
        bool lanes = known->lanes && finding->lanes;
        *known = *finding;
        known->lanes = lanes;
    }
    known->same_value = same_value;
    known->count = count;
}

static void add(check_findings *findings, const check_finding *finding) {
    for (size_t i = 0; i < findings->count; i++) {
        if (!same(&findings->list[i], finding)) continue;
        count_up(&findings->list[i], finding);
        return;
    }
    if (findings->count == MOST) return;
    if (findings->count == findings->room) {
        size_t room = findings->room == 0 ? 16 : 2 * findings->room;
        check_finding *list = realloc(findings->list, room * sizeof *list);
        if (list == NULL) {
            findings->lost = true;
            return;
        }
        findings->list = list;
        findings->room = room;
    }
    findings->list[findings->count] = *finding;
    findings->list[findings->count++].count = 1;
}

void check_findings_add(check_findings *findings, const check_finding *finding) {
    if (findings->quiet) return;
    pthread_mutex_lock(&findings->lock);
    add(findings, finding);
    pthread_mutex_unlock(&findings->lock);
}

void check_findings_grade(check_findings *findings, const void *owner, uint32_t pc, bool idle) {
    pthread_mutex_lock(&findings->lock);
    for (size_t i = 0; i < findings->count; i++) {
        check_finding *finding = &findings->list[i];
        if (finding->kind != CHECK_UNINITIALISED || finding->owner != owner || finding->here.pc != pc) continue;
        finding->idle = idle && (finding->idle || !finding->graded);
        finding->graded = true;
    }
    pthread_mutex_unlock(&findings->lock);
}

void check_findings_lose(check_findings *findings) {
    pthread_mutex_lock(&findings->lock);
    findings->lost = true;
    pthread_mutex_unlock(&findings->lock);
}

bool check_findings_lost(check_findings *findings) {
    pthread_mutex_lock(&findings->lock);
    bool lost = findings->lost;
    findings->lost = false;
    pthread_mutex_unlock(&findings->lock);
    return lost;
}

bool check_findings_any(check_findings *findings, const void *owner) {
    bool any = false;
    pthread_mutex_lock(&findings->lock);
    for (size_t i = 0; i < findings->count && !any; i++) any = findings->list[i].owner == owner;
    pthread_mutex_unlock(&findings->lock);
    return any;
}

// Two findings may be about the same two places, each seen from the other side. Then both name the same barrier.
static void agree(check_finding *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < count && list[i].kind == CHECK_RACE && !list[i].lanes; k++) {
            if (list[k].lanes && same_place(&list[k].here, &list[i].there) && same_place(&list[k].there, &list[i].here))
                list[k].lanes = false;
        }
    }
}

check_finding *check_findings_take(check_findings *findings, const void *owner, size_t *count) {
    pthread_mutex_lock(&findings->lock);
    check_finding *taken = malloc((findings->count + 1) * sizeof *taken);
    size_t kept = 0;
    *count = 0;
    for (size_t i = 0; i < findings->count; i++) {
        bool mine = findings->list[i].owner == owner;
        if (mine && taken != NULL) taken[*count] = findings->list[i];
        if (!mine || taken == NULL) findings->list[kept++] = findings->list[i];
        *count += mine;
    }
    findings->count = kept;
    pthread_mutex_unlock(&findings->lock);
    if (taken != NULL) agree(taken, *count);
    return taken;
}

const char *check_kind_name(check_kind kind) {
    static const char *const names[CHECK_KINDS] = {
        [CHECK_OUT_OF_BOUNDS] = "out of bounds",
        [CHECK_UNINITIALISED] = "uninitialised read",
        [CHECK_RACE] = "race",
        [CHECK_RACE_OF_GROUPS] = "race between threadgroups",
        [CHECK_RACE_OF_DISPATCHES] = "race between dispatches",
        [CHECK_READ_ONLY] = "write to read-only memory",
        [CHECK_DIVERGENT_BARRIER] = "divergent barrier",
        [CHECK_INACTIVE_LANE] = "inactive lane",
        [CHECK_MISALIGNED] = "misaligned access",
        [CHECK_NO_END] = "no end",
        [CHECK_DIVISION] = "division by zero",
        [CHECK_ORDER_DEPENDENT] = "order-dependent result",
        [CHECK_NAN] = "NaN from finite inputs",
        [CHECK_STACK_OVERFLOW] = "stack overflow",
    };
    return names[kind];
}

bool check_warns(const check_finding *finding) {
    if (finding->kind == CHECK_RACE && finding->lanes && !finding->alone) return true;
    return finding->same_value || finding->idle || finding->kind == CHECK_NAN || finding->kind == CHECK_INACTIVE_LANE;
}

// [device or threadgroup memory][threads of different simdgroups, of one, of the only one]
static const char *remedy_of_race(const check_finding *finding) {
    static const char *const remedies[2][3] = {
        {"put threadgroup_barrier(mem_flags::mem_device) between them; one for threadgroup memory alone does not order "
         "device memory",
         "put simdgroup_barrier(mem_flags::mem_device) between them: both are lanes of one simdgroup, and nothing else "
         "says that these run in lockstep",
         "put threadgroup_barrier(mem_flags::mem_device) between them, or simdgroup_barrier where not every thread "
         "comes; "
         "one for threadgroup memory alone does not order device memory"},
        {"put threadgroup_barrier(mem_flags::mem_threadgroup) between them",
         "put simdgroup_barrier(mem_flags::mem_threadgroup) between them: both are lanes of one simdgroup, and nothing "
         "else says that these run in lockstep",
         "put threadgroup_barrier(mem_flags::mem_threadgroup) between them, or simdgroup_barrier where not every "
         "thread "
         "comes"},
    };
    return remedies[finding->threadgroup][finding->lanes ? 1 + finding->alone : 0];
}

const char *check_remedy(const check_finding *finding) {
    switch (finding->kind) {
    case CHECK_OUT_OF_BOUNDS:
        if (finding->pointer == CHECK_NULL) return "set the pointer, or ask for null first";
        if (finding->pointer == CHECK_NOT_USED)
            return "call useResource for the buffer before the dispatch, and keep it until the command buffer is done";
        if (finding->pointer == CHECK_COUNTS) return "limit the counts where they are written";
        return "guard the index, or bind more";
    case CHECK_UNINITIALISED:
        if (finding->idle) return "leave the read out, or write the value first: so far nothing depends on it";
        return "write it first, and put a barrier between where another thread does";
    case CHECK_RACE:
        return remedy_of_race(finding);
    case CHECK_RACE_OF_GROUPS:
        return "let one threadgroup write it, use atomics, or split the kernel: nothing orders threadgroups "
               "of one dispatch";
    case CHECK_RACE_OF_DISPATCHES:
        return "put a memory barrier between the dispatches, or name the buffer as written";
    case CHECK_READ_ONLY:
        return "declare the parameter without const, as `device`";
    case CHECK_DIVERGENT_BARRIER:
        return "let every thread reach the barrier: no return or branch around it";
    case CHECK_INACTIVE_LANE:
        return "let every lane of the simdgroup take part, or take its place into account";
    case CHECK_MISALIGNED:
        return "use a packed type, or align the address";
    case CHECK_NO_END:
        if (finding->here.code) return "let the loop come to an end: check its condition, and what changes it";
        if (finding->lanes) return "let one lane of a simdgroup wait, and for another simdgroup";
        return "threads wait for one another; nothing orders threadgroups of one dispatch";
    case CHECK_DIVISION:
        return "guard the divisor: what an integer over zero gives is undefined";
    case CHECK_ORDER_DEPENDENT:
        return "make the result independent of which thread comes first";
    case CHECK_NAN:
        return "guard 0/0, inf - inf and the like";
    case CHECK_STACK_OVERFLOW:
        return "use smaller arrays, or threadgroup or device memory: a GPU's thread has far less than this";
    case CHECK_KINDS:
        break;
    }
    return "";
}
