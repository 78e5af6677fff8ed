#define _GNU_SOURCE
#include "CUDAExecutor.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "CUDAFlight.h"
#include "CUDAGraph.h"
#include "CUDAPhases.h"
#include "metal/base/OBMOrder.h"

enum {
    SPINS = 4000,        // looks of a waiting thread before it sleeps between them
    WAITER_NAP = 20000,  // nanoseconds
    IDLE_NAP = 200000,   // of the executor's own thread between two looks
};

struct cuda_executor {
    obm_executor calls;
    cuda_context *context;
    obm_order order;
    cuda_flight flight;
    cuda_phases phases;
    pthread_mutex_t looking;    // at the head of what is in flight
    pthread_cond_t changed;     // something is in flight, or the thread is to end; with the order's lock
    bool running, stop;         // the thread; under the order's lock
    obm_atomic_u32 woken;       // an event that a recording waits for was signalled
    obm_atomic_u32 references;  // the owner and the thread
    uint64_t deadline;          // nanoseconds
    void (*closed)(void *argument);
    void *argument;
};

static void start(cuda_executor *executor, obm_recording *recording);

static void release(cuda_executor *executor) {
    if (obm_sub(&executor->references, 1) != 1) return;
    cuda_phases_close(&executor->phases);
    cuda_flight_close(&executor->flight);
    pthread_mutex_destroy(&executor->looking);
    pthread_cond_destroy(&executor->changed);
    obm_order_close(&executor->order);
    executor->closed(executor->argument);
    free(executor);
}

// An event was signalled. Its lock is held, and this may be the thread of another device: somebody else goes on.
static void wake(void *context) {
    cuda_executor *executor = context;
    if (!obm_order_alive(&executor->order)) return;
    pthread_mutex_lock(&executor->order.lock);
    obm_store(&executor->woken, 1);
    pthread_cond_signal(&executor->changed);
    pthread_mutex_unlock(&executor->order.lock);
}

// Ends a part of a recording, in one step with what the order makes of it.
static obm_recording *end_part(cuda_executor *executor, cuda_marker *marker, cuda_marker_kind kind, obm_phase *phase) {
    obm_recording *recording = marker->recording, *next = NULL;
    marker->kind = kind;
    marker->phase = phase;
    if (kind == CUDA_PART) marker->recording = NULL;  // it goes on without waiting for this
    pthread_mutex_lock(&executor->order.lock);
    bool alone = cuda_marker_end(&executor->flight, marker);
    if (kind == CUDA_SIGNAL) next = obm_order_park(&executor->order, recording, phase->next);
    if (kind == CUDA_END) next = obm_order_hand_on(&executor->order, recording);
    if (alone) pthread_cond_signal(&executor->changed);
    pthread_mutex_unlock(&executor->order.lock);
    return next;
}

static bool look(cuda_executor *executor);

// Without a marker, most likely for lack of memory: lets all that is in flight end, and then the recording, which failed.
static obm_recording *finish_without(cuda_executor *executor, obm_recording *recording, CUresult result) {
    void (*completed)(obm_recording *) = recording->completed;
    if (result == CUDA_ERROR_OUT_OF_MEMORY) obm_recording_fail_for_memory(recording);
    else cuda_fail_in_flight(&executor->flight, recording, result, NULL, NULL);
    while (cuda_flight_head(&executor->flight) != NULL) look(executor);
    obm_recording *next = obm_order_finish(&executor->order, recording);
    completed(recording);
    return next;
}

// Hands a recording on until it must wait for something; returns the one to start next, or NULL.
static obm_recording *hand_on(cuda_executor *executor, obm_recording *recording) {
    obm_phase *phase = obm_order_begin(recording);
    CUresult result;
    cuda_marker *marker = cuda_marker_begin(&executor->flight, &result);
    if (marker == NULL) return finish_without(executor, recording, result);
    marker->recording = recording;
    for (; phase != NULL && obm_load(&recording->error) == NULL; phase = phase->next) {
        obm_recording *next;
        if (phase->kind == OBM_PHASE_SIGNAL) return end_part(executor, marker, CUDA_SIGNAL, phase);
        if (phase->kind != OBM_PHASE_WAIT) {
            cuda_phases_run(&executor->phases, recording, phase, marker);
        } else if (!obm_order_wait(&executor->order, recording, phase, wake, executor, &next)) {
            end_part(executor, marker, CUDA_PART, NULL);
            return next;
        }
    }
    return end_part(executor, marker, CUDA_END, NULL);
}

static void start(cuda_executor *executor, obm_recording *recording) {
    if (recording == NULL) return;
    cuda_enter(executor->context);
    while (recording != NULL) recording = hand_on(executor, recording);
    cuda_leave(executor->context);
}

static bool is_endless(cuda_executor *executor, cuda_marker *marker) {
    uint64_t now = obm_nanoseconds();
    if (marker->first_seen == 0) marker->first_seen = now;
    return now - marker->first_seen > executor->deadline;
}

static uint32_t started(const cuda_executor *executor) { return *(volatile uint32_t *)executor->context->started; }

// Whether the GPU is done with a marker; what went wrong fails its recording and all later ones.
static bool is_reached(cuda_executor *executor, cuda_marker *marker) {
    if (obm_load(&executor->flight.lost) == NULL) {
        CUresult result = executor->context->driver->cuEventQuery(marker->end);
        if (result == CUDA_SUCCESS) return true;
        if (result == CUDA_ERROR_NOT_READY) {
            if (!is_endless(executor, marker)) return false;
            __atomic_store_n(&executor->context->abandoned, true, __ATOMIC_RELAXED);
            obm_store(&executor->flight.lost, "an earlier command buffer did not end; open the device again");
            if (marker->recording != NULL)
                cuda_fail_started(marker->recording, CUDA_ERROR_LAUNCH_TIMEOUT, started(executor));
        } else {
            // Copies that were not seen to end before did nothing wrong.
            obm_recording *guilty = cuda_flight_launcher(&executor->flight)->recording;
            if (guilty != NULL) cuda_fail_started(guilty, result, started(executor));
            obm_store(&executor->flight.lost, cuda_lost_to_another);
        }
    }
    if (marker->recording != NULL)
        obm_recording_fail(marker->recording, OBM_ERROR_DEVICE_REMOVED, obm_load(&executor->flight.lost));
    return true;
}

// Does what is to be done behind a marker.
static void pass(cuda_executor *executor, cuda_marker *marker) {
    obm_recording *recording = marker->recording, *next;
    cuda_marker_kind kind = marker->kind;
    obm_phase *phase = marker->phase;
    void (*completed)(obm_recording *) = NULL;
    if (kind == CUDA_END) {
        completed = recording->completed;
        double begin;
        cuda_marker_times(&executor->flight, marker, obm_seconds(), &begin, &recording->end_time);
        if (recording->resume == NULL) recording->start_time = begin;  // else that of its first part stays
    }
    cuda_marker_give_back(&executor->flight, marker);
    if (kind == CUDA_PART) return;
    if (kind == CUDA_END) {
        next = obm_order_retire(&executor->order, recording);
    } else {
        obm_event_signal(phase->event, phase->value);
        next = obm_order_let_go(&executor->order, recording);
    }
    pthread_mutex_unlock(&executor->looking);  // for what comes now may look, too
    if (kind == CUDA_END) completed(recording);
    start(executor, next);
    pthread_mutex_lock(&executor->looking);
}

// Looks whether the next marker is reached. True if it was. False, too, while another thread looks.
static bool look(cuda_executor *executor) {
    if (obm_load_relaxed(&executor->woken) && obm_exchange(&executor->woken, 0))
        start(executor, obm_order_next(&executor->order));
    if (pthread_mutex_trylock(&executor->looking) != 0) return false;
    cuda_marker *marker = cuda_flight_head(&executor->flight);
    if (marker == NULL) {
        pthread_mutex_unlock(&executor->looking);
        return false;
    }
    obm_add(&executor->references, 1);  // the last recording may take the device with it
    cuda_enter(executor->context);
    bool reached = is_reached(executor, marker);
    if (reached) {
        cuda_flight_pop(&executor->flight);
        pass(executor, marker);
    }
    cuda_leave(executor->context);
    pthread_mutex_unlock(&executor->looking);
    release(executor);
    return reached;
}

static void nap(long nanoseconds) { nanosleep(&(struct timespec){0, nanoseconds}, NULL); }

static bool wait_for_work(cuda_executor *executor) {
    pthread_mutex_lock(&executor->order.lock);
    while (cuda_flight_head(&executor->flight) == NULL && !obm_load(&executor->woken) && !executor->stop)
        pthread_cond_wait(&executor->changed, &executor->order.lock);
    bool goes_on = !executor->stop;
    pthread_mutex_unlock(&executor->order.lock);
    return goes_on;
}

static void *run_thread(void *context) {
    cuda_executor *executor = context;
    while (wait_for_work(executor)) {
        if (!look(executor)) nap(IDLE_NAP);
    }
    release(executor);
    return NULL;
}

// Starts the thread if there is none. Under the order's lock.
static bool start_thread(cuda_executor *executor) {
    if (executor->running) return true;
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    sigdelset(&all, SIGBUS);                      // the thread's own, where a mapped file is cut short
    pthread_sigmask(SIG_SETMASK, &all, &before);  // other signals belong to the host's threads
    obm_add(&executor->references, 1);
    executor->running = pthread_create(&thread, &attributes, run_thread, executor) == 0;
    if (!executor->running) obm_sub(&executor->references, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return executor->running;
}

static void cuda_enqueue(void *context, obm_recording *recording) {
    cuda_executor *executor = context;
    if (obm_order_alive(&executor->order)) obm_order_enqueue(&executor->order, recording);
}

static void cuda_withdraw(void *context, obm_recording *recording) {
    cuda_executor *executor = context;
    if (!obm_order_alive(&executor->order)) return;
    obm_order_withdraw(&executor->order, recording);
    start(executor, obm_order_next(&executor->order));
}

static const char *cuda_commit(void *context, obm_recording *recording) {
    cuda_executor *executor = context;
    if (!obm_order_alive(&executor->order)) return obm_order_forked;
    recording->committed_time = obm_seconds();
    obm_recording *next = NULL;
    const char *problem = obm_load(&executor->flight.lost);
    pthread_mutex_lock(&executor->order.lock);
    if (problem == NULL && !start_thread(executor)) problem = "no thread could be started; raise the limit on threads";
    if (problem == NULL) next = obm_order_commit(&executor->order, recording);
    else obm_order_refuse(&executor->order, recording);
    pthread_mutex_unlock(&executor->order.lock);
    start(executor, next);
    return problem;
}

static void cuda_wait(void *context, bool (*ready)(void *argument), void *argument) {
    cuda_executor *executor = context;
    for (unsigned spins = 0; !ready(argument) && obm_order_alive(&executor->order); spins++) {
        if (look(executor)) spins = 0;
        else if (spins < SPINS) obm_pause();
        else nap(WAITER_NAP);
    }
}

static void cuda_forget(void *context, obm_commands *commands) {
    cuda_executor *executor = context;
    if (cuda_is_out_of_reach(executor->context)) return;
    cuda_enter(executor->context);
    cuda_graph_forget(executor->context, commands);
    cuda_leave(executor->context);
}

cuda_executor *cuda_executor_create(cuda_context *context, double deadline) {
    cuda_executor *executor = calloc(1, sizeof *executor);
    if (executor == NULL) return NULL;
    executor->context = context;
    executor->deadline = (uint64_t)(deadline * 1e9);
    executor->calls = (obm_executor){.phase_size = sizeof(obm_phase),
                                     .dispatch_size = sizeof(obm_dispatch),
                                     .bindings = true,
                                     .takes_commands = true,
                                     .forget = cuda_forget,
                                     .enqueue = cuda_enqueue,
                                     .withdraw = cuda_withdraw,
                                     .commit = cuda_commit,
                                     .wait = cuda_wait,
                                     .context = executor};
    if (!obm_order_open(&executor->order)) {
        free(executor);
        return NULL;
    }
    cuda_flight_open(&executor->flight, context);
    executor->phases = (cuda_phases){.context = context, .flight = &executor->flight};
    pthread_mutex_init(&executor->looking, NULL);
    pthread_cond_init(&executor->changed, NULL);
    obm_store(&executor->references, 1);
    return executor;
}

void cuda_executor_destroy(cuda_executor *executor, void (*closed)(void *argument), void *argument) {
    if (executor == NULL) return;
    executor->closed = closed;
    executor->argument = argument;
    if (obm_order_alive(&executor->order)) {
        pthread_mutex_lock(&executor->order.lock);
        executor->stop = true;
        pthread_cond_signal(&executor->changed);
        pthread_mutex_unlock(&executor->order.lock);
    }
    release(executor);
}

const obm_executor *cuda_executor_calls(const cuda_executor *executor) { return &executor->calls; }
