#include "CheckerJob.h"

#include "metal/checker/engine/CheckRun.h"

enum { ERROR_PAGE_FAULT = 3 };  // MTLCommandBufferErrorPageFault

void checker_begin(const cpu_dispatch *first) { check_begin_phase(first->watched->state); }

void checker_run(const cpu_dispatch *dispatch) {
    if (dispatch->total == 0 || check_run(dispatch->watched, &dispatch->launch)) return;
    cpu_job_fail((cpu_job *)dispatch->watched->owner, ERROR_PAGE_FAULT, "a kernel was stopped; the command buffer's logs say why");
}
