#define _GNU_SOURCE
#include "OBMSerial.h"

#include <signal.h>
#include <stdlib.h>

#include "OBMOrder.h"
#include "OBMThread.h"

struct obm_serial {
    obm_executor executor;
    obm_serial_work work;
    obm_order order;
    pthread_cond_t changed;     // a recording is to start, was scheduled or has completed, or the thread is to end
    obm_recording *started;     // the thread's to take; under the lock
    bool running, stop;         // the thread; under the lock
    obm_atomic_u32 references;  // the owner and the thread
};

static void release(obm_serial *serial) {
    if (obm_sub(&serial->references, 1) != 1) return;
    pthread_cond_destroy(&serial->changed);
    obm_order_close(&serial->order);
    free(serial);
}

static void announce(obm_serial *serial) {
    pthread_mutex_lock(&serial->order.lock);
    pthread_cond_broadcast(&serial->changed);
    pthread_mutex_unlock(&serial->order.lock);
}

static void start(obm_serial *serial, obm_recording *recording) {
    pthread_mutex_lock(&serial->order.lock);
    if (recording != NULL) serial->started = recording;
    pthread_cond_broadcast(&serial->changed);
    pthread_mutex_unlock(&serial->order.lock);
}

static void look_again(void *context) {
    obm_serial *serial = context;
    if (obm_order_alive(&serial->order)) start(serial, obm_order_next(&serial->order));
}

static bool resolve(const obm_serial *serial, obm_recording *recording, obm_phase *phase) {
    if (!phase->indirect || serial->work.resolve == NULL) return obm_phase_resolve(recording, phase);
    return serial->work.resolve(serial->work.context, recording, phase);
}

// Runs a recording to its end, or until it waits for an event.
static void run(obm_serial *serial, obm_recording *recording) {
    bool fresh = recording->blocked_on == NULL;
    obm_phase *phase = obm_order_begin(recording);
    announce(serial);
    if (fresh && phase != NULL) serial->work.begin(serial->work.context, recording);
    for (; phase != NULL; phase = phase->next) {
        obm_recording *next;
        if (phase->kind == OBM_PHASE_SIGNAL) {
            obm_event_signal(phase->event, phase->value);
        } else if (phase->kind == OBM_PHASE_WAIT) {
            if (obm_order_wait(&serial->order, recording, phase, look_again, serial, &next)) continue;
            start(serial, next);
            return;
        } else if (phase->kind == OBM_PHASE_BLIT) {
            obm_blit_run(phase->blit, 0, phase->blit->size);
        } else if (resolve(serial, recording, phase)) {
            serial->work.run(serial->work.context, recording, phase);
        } else {
            break;
        }
    }
    void (*completed)(obm_recording *) = recording->completed;
    start(serial, obm_order_finish(&serial->order, recording));
    completed(recording);
}

static obm_recording *take(obm_serial *serial) {
    pthread_mutex_lock(&serial->order.lock);
    while (serial->started == NULL && !serial->stop) pthread_cond_wait(&serial->changed, &serial->order.lock);
    obm_recording *recording = serial->started;
    serial->started = NULL;
    pthread_mutex_unlock(&serial->order.lock);
    return recording;
}

static void *run_thread(void *context) {
    obm_serial *serial = context;
    for (obm_recording *recording = take(serial); recording != NULL; recording = take(serial)) run(serial, recording);
    release(serial);
    return NULL;
}

// Starts the thread if there is none. Under the lock.
static bool start_thread(obm_serial *serial) {
    if (serial->running) return true;
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, OBM_STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, SIGBUS);                      // the thread's own, where a mapped file is cut short
    pthread_sigmask(SIG_SETMASK, &all, &before);  // other signals belong to the host's threads
    obm_add(&serial->references, 1);
    serial->running = pthread_create(&thread, &attributes, run_thread, serial) == 0;
    if (!serial->running) obm_sub(&serial->references, 1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return serial->running;
}

static void serial_enqueue(void *context, obm_recording *recording) {
    obm_serial *serial = context;
    if (obm_order_alive(&serial->order)) obm_order_enqueue(&serial->order, recording);
}

static void serial_withdraw(void *context, obm_recording *recording) {
    obm_serial *serial = context;
    if (!obm_order_alive(&serial->order)) return;
    obm_order_withdraw(&serial->order, recording);
    look_again(serial);
}

static const char *serial_commit(void *context, obm_recording *recording) {
    obm_serial *serial = context;
    if (!obm_order_alive(&serial->order)) return obm_order_forked;
    recording->committed_time = obm_seconds();
    pthread_mutex_lock(&serial->order.lock);
    bool running = start_thread(serial);
    if (running) {
        obm_recording *next = obm_order_commit(&serial->order, recording);
        if (next != NULL) serial->started = next;
        pthread_cond_broadcast(&serial->changed);
    } else {
        obm_order_refuse(&serial->order, recording);
    }
    pthread_mutex_unlock(&serial->order.lock);
    return running ? NULL : "no thread could be started; raise the limit on threads";
}

static void serial_wait(void *context, bool (*ready)(void *argument), void *argument) {
    obm_serial *serial = context;
    if (ready(argument) || !obm_order_alive(&serial->order)) return;
    pthread_mutex_lock(&serial->order.lock);
    while (!ready(argument)) pthread_cond_wait(&serial->changed, &serial->order.lock);
    pthread_mutex_unlock(&serial->order.lock);
}

static void serial_forget(void *context, obm_commands *commands) {
    obm_serial *serial = context;
    serial->work.forget(serial->work.context, commands);
}

obm_serial *obm_serial_create(obm_serial_work work) {
    obm_serial *serial = calloc(1, sizeof *serial);
    if (serial == NULL) return NULL;
    serial->work = work;
    serial->executor = (obm_executor){.phase_size = work.phase_size,
                                      .dispatch_size = work.dispatch_size,
                                      .bindings = true,
                                      .takes_commands = work.takes_commands,
                                      .forget = work.forget != NULL ? serial_forget : NULL,
                                      .enqueue = serial_enqueue,
                                      .withdraw = serial_withdraw,
                                      .commit = serial_commit,
                                      .wait = serial_wait,
                                      .context = serial};
    if (!obm_order_open(&serial->order)) {
        free(serial);
        return NULL;
    }
    pthread_cond_init(&serial->changed, NULL);
    obm_store(&serial->references, 1);
    return serial;
}

void obm_serial_destroy(obm_serial *serial) {
    if (serial == NULL) return;
    if (obm_order_alive(&serial->order)) {
        pthread_mutex_lock(&serial->order.lock);
        serial->stop = true;
        pthread_cond_broadcast(&serial->changed);
        pthread_mutex_unlock(&serial->order.lock);
    }
    release(serial);
}

const obm_executor *obm_serial_executor(const obm_serial *serial) { return &serial->executor; }
