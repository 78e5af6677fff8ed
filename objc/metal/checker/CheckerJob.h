// Dispatches that the checker runs, as the pool sees them.
#ifndef CHECKER_JOB_H
#define CHECKER_JOB_H

#include "metal/cpu/CPUJob.h"

// A phase begins: the dispatches of those before it are done.
void checker_begin(const cpu_dispatch *first);

void checker_run(const cpu_dispatch *dispatch);

#endif
