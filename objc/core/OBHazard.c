#include "OBHazard.h"

static bool conflict(const OBAccess *a, const OBAccess *b) {
    return a->resource == b->resource && a->begin < b->end && b->begin < a->end && (a->writes || b->writes);
}

static bool anyConflict(const OBAccess *a, size_t na, const OBAccess *b, size_t nb) {
    for (size_t i = 0; i < na; i++) {
        for (size_t j = 0; j < nb; j++) {
            if (conflict(&a[i], &b[j])) return true;
        }
    }
    return false;
}

size_t OBPlanBarriers(const OBAccess *accesses, const size_t *first, size_t count, ptrdiff_t *conflicts) {
    size_t barriers = 0;
    size_t open = 0;  // first dispatch after the last barrier
    for (size_t i = 0; i < count; i++) {
        conflicts[i] = -1;
        for (size_t j = i; j-- > open && conflicts[i] < 0;) {
            if (anyConflict(accesses + first[i], first[i + 1] - first[i], accesses + first[j],
                            first[j + 1] - first[j])) {
                conflicts[i] = (ptrdiff_t)j;
            }
        }
        if (conflicts[i] < 0) continue;
        barriers++;
        open = i;
    }
    return barriers;
}
