// Threads of our own. Plain C.
#ifndef OBM_THREAD_H
#define OBM_THREAD_H

enum { OBM_STACK_BYTES = 8 << 20 };  // of each: macOS and some C libraries of Linux give new threads much less

#endif
