// Where in its kernel a thread waits: the loops that it is in, with their turns, and the calls that led there.
#include "CheckState.h"

// Frames of functions: where the caller's is, and where to go back to.
typedef struct frame {
    const struct frame *caller;
    const void *back;
} frame;

// The loops and calls from the kernel's entry to here, the outermost first. Both lie on the thread's stack, which grows
// downwards: what a function's loops remember stands above the frame of whatever it calls.
void check_note_way(const check_state *state, const void *innermost) {
    check_fiber *self = state->running;
    const frame *at = innermost;
    const frame *frames[CHECK_DEPTH];
    const metallib_loop *loops[CHECK_DEPTH];
    uint32_t frame_count = 0, loop_count = 0;
    while (frame_count < CHECK_DEPTH && (uintptr_t)at - (uintptr_t)state->stacks.memory < state->stacks.length &&
           at->back != NULL) {
        frames[frame_count++] = at;
        at = at->caller;
    }
    const metallib_loop *loop = state->dispatch->code->loops != NULL ? *state->dispatch->code->loops : NULL;
    for (; loop != NULL && loop_count < CHECK_DEPTH; loop = loop->outer) loops[loop_count++] = loop;
    self->depth = 0;
    while (frame_count > 0 && self->depth < CHECK_DEPTH) {
        const frame *called = frames[--frame_count];
        while (loop_count > 0 && (uintptr_t)loops[loop_count - 1] > (uintptr_t)called && self->depth < CHECK_DEPTH) {
            loop = loops[--loop_count];
            self->way[self->depth++] = (check_step){loop->place, loop->turn, loop->at};
        }
        if (self->depth < CHECK_DEPTH) self->way[self->depth++] = (check_step){called->back, 0, 0};
    }
}

static bool is_call(const check_step *step) { return step->turn == 0 && step->at == 0; }

// Which of two waiting threads is behind the other: in an earlier turn of a loop, or at a statement that comes first in
// the source. Within one statement the place in the code as the compiler laid it out decides.
int check_order_of(const check_fiber *a, const check_fiber *b) {
    for (uint32_t i = 0; i < a->depth && i < b->depth; i++) {
        if (a->way[i].place != b->way[i].place) return (uintptr_t)a->way[i].place < (uintptr_t)b->way[i].place ? -1 : 1;
        if (a->way[i].turn != b->way[i].turn) return a->way[i].turn < b->way[i].turn ? -1 : 1;
        if (a->way[i].at != b->way[i].at) return a->way[i].at < b->way[i].at ? -1 : 1;
    }
    return (int)a->depth - (int)b->depth;
}

// How the ways of two threads to one line differ. Places in the code do not count: the compiler may copy a barrier.
check_difference check_difference_of(const check_fiber *a, const check_fiber *b) {
    uint32_t i = 0, k = 0;
    for (;; i++, k++) {
        while (i < a->depth && is_call(&a->way[i])) i++;
        while (k < b->depth && is_call(&b->way[k])) k++;
        if (i == a->depth || k == b->depth) return i == a->depth && k == b->depth ? CHECK_SAME : CHECK_OTHER_STATEMENT;
        if (a->way[i].turn != b->way[k].turn) return CHECK_OTHER_TURN;
        if (a->way[i].at != b->way[k].at) return CHECK_OTHER_STATEMENT;
    }
}
