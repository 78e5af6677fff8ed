// Threads of our own, and Foundation. Plain C.
#ifndef OBM_THREAD_H
#define OBM_THREAD_H

enum { OBM_STACK_BYTES = 8 << 20 };  // of each: macOS and some C libraries of Linux give new threads much less

// Makes the thread that calls it known to Foundation, which otherwise happens when the thread first asks something of it.
// Where that is after somebody was told that the work is done, the process may be ending by then, and Foundation's exit
// handlers do not expect it.
void obm_enter_foundation(void);

#endif
