// Limits that a device of this machine does not have but another does: OB_LIMITS sets them, so that code for such devices
// runs here. Plain C; any thread may call it.
#ifndef OBM_LIMITS_H
#define OBM_LIMITS_H

#include <stdint.h>

// The limit of that name in OB_LIMITS, such as "maxBufferLength=1048576 recommendedMaxWorkingSetSize=8388608"; where it
// has none, `own`. 0 where OB_LIMITS is no list of such names, which are these two, watchdogThreadgroups and macOS, and
// whole numbers above 0.
uint64_t obm_limit(const char *name, uint64_t own);

#endif
