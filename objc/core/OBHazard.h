// Which dispatches must wait for which: the one place where barriers are decided.
//
// Plain C on byte ranges, so that a chain can be planned and printed without a device.
#ifndef OB_HAZARD_H
#define OB_HAZARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A dispatch touches bytes [begin, end) of a resource. Two accesses conflict when they overlap on
// one resource and at least one writes.
typedef struct {
    uint64_t resource;
    uint64_t begin, end;
    bool writes;
} OBAccess;

// Decides where a concurrent encoder needs barriers. Dispatch i makes accesses[first[i]] up to
// accesses[first[i + 1] - 1]. Sets conflicts[i] to the latest dispatch since the last barrier whose
// access conflicts with one of i's, which means a barrier before i; or to -1 for none. A barrier
// orders everything before it against everything after it. Returns the number of barriers.
size_t OBPlanBarriers(const OBAccess *accesses, const size_t *first, size_t count, ptrdiff_t *conflicts);

#endif
