// The order in which a device runs its recordings, for executors that start one at a time.
//
// Recordings start in the order in which they were enqueued or committed, but one that waits for an event lets those of
// other queues pass. An executor either runs what it started to its end (obm_order_finish), or hands it on to a device
// that runs it later, in the same order, and starts the next meanwhile (obm_order_hand_on, obm_order_retire). Every function may be called from any thread. Those that are marked "under the lock" ask the
// caller to hold `lock`, so that an executor can change more than the order in one step; the others take it themselves.
#ifndef OBM_ORDER_H
#define OBM_ORDER_H

#include <pthread.h>

#include "OBMRecording.h"

typedef struct obm_order {
    pthread_mutex_t lock;
    obm_recording *head;     // enqueued and committed
    obm_atomic_u32 running;  // a recording runs or is about to; changed under the lock
    uint32_t *alive;         // of OBMHost.h: 0 in a child after fork
} obm_order;

// False when there is no memory left; then there is nothing to close.
bool obm_order_open(obm_order *order);
void obm_order_close(obm_order *order);

// False in a child process after fork, which has a device's memory but none of its threads. Nothing else here may be
// called then.
static inline bool obm_order_alive(const obm_order *order) { return *order->alive == 1; }

// Why a recording cannot run where the order is not alive.
extern const char *const obm_order_forked;

void obm_order_enqueue(obm_order *order, obm_recording *recording);
void obm_order_withdraw(obm_order *order, obm_recording *recording);

// Commits a recording. Returns what the executor is to start, which counts as running; NULL while something runs.
// Under the lock.
obm_recording *obm_order_commit(obm_order *order, obm_recording *recording);

// Takes a recording out that cannot be committed after all. Under the lock.
void obm_order_refuse(obm_order *order, obm_recording *recording);

// Looks again for a recording to start: an event has been signalled, or one was withdrawn.
obm_recording *obm_order_next(obm_order *order);

// The steps of whoever runs a recording. Begin says where to go on: NULL if it has already failed, or has no phases.
// The other two return the recording to start next, and NULL for none. After finish the caller calls `completed`, which
// it has read before: the recording may be gone then.
obm_phase *obm_order_begin(obm_recording *recording);
obm_recording *obm_order_finish(obm_order *order, obm_recording *recording);

// The device has all of a recording, so that the next may start. Under the lock, in one step with what tells the
// executor that the device is done with it.
obm_recording *obm_order_hand_on(obm_order *order, obm_recording *recording);

// What was handed on has completed on the device. As obm_order_finish, but that the caller tells the times.
obm_recording *obm_order_retire(obm_order *order, obm_recording *recording);

// Keeps a recording from going on at `resume` until it is let go. The first under the lock.
obm_recording *obm_order_park(obm_order *order, obm_recording *recording, obm_phase *resume);
obm_recording *obm_order_let_go(obm_order *order, obm_recording *recording);

// Waits for the event of `phase`. True if the value is reached and the recording goes on at once; else wake(context)
// will be called, and *next is as above.
bool obm_order_wait(obm_order *order, obm_recording *recording, const obm_phase *phase, void (*wake)(void *context),
                    void *context, obm_recording **next);

#endif
