#define _GNU_SOURCE
#include "CUDADriver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OLDEST = 12030 };

static cuda_driver driver;
static char problem[512];
static pid_t owner;  // the process that started the driver
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    const char *symbol;
    size_t offset;
} symbols[] = {
#define CUDA_SYMBOL(name, suffix, parameters) {#name suffix, offsetof(cuda_driver, name)},
    CUDA_DRIVER_FUNCTIONS(CUDA_SYMBOL)
#undef CUDA_SYMBOL
};

static void find_symbols(void *library, const char *path) {
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *address = dlsym(library, symbols[i].symbol);
        if (address == NULL) {
            snprintf(problem, sizeof problem, "%s has no %s: install an NVIDIA driver for CUDA %d.%d or newer", path,
                     symbols[i].symbol, OLDEST / 1000, OLDEST % 1000 / 10);
            return;
        }
        *(void **)((char *)&driver + symbols[i].offset) = address;
    }
}

static void start(void) {
    CUresult result = driver.cuInit(0);
    if (result == CUDA_SUCCESS) result = driver.cuDriverGetVersion(&driver.version);
    if (result != CUDA_SUCCESS) {
        snprintf(problem, sizeof problem, "NVIDIA's driver does not start: %s; nvidia-smi says more",
                 cuda_text(result));
    } else if (driver.version < OLDEST) {
        snprintf(problem, sizeof problem, "NVIDIA's driver is for CUDA %d.%d: install one for CUDA %d.%d or newer",
                 driver.version / 1000, driver.version % 1000 / 10, OLDEST / 1000, OLDEST % 1000 / 10);
    }
}

// The library stays open until the process ends: the driver has threads and memory of its own.
static void open_driver(void) {
    const char *named = getenv("OB_CUDA_DRIVER");
    const char *path = named != NULL && *named != '\0' ? named : "libcuda.so.1";
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(problem, sizeof problem, "NVIDIA's driver is not there: install it (%s)", dlerror());
        return;
    }
    find_symbols(library, path);
    owner = getpid();
    if (*problem == '\0') start();
}

bool cuda_driver_forked(void) { return owner != 0 && owner != getpid(); }

const cuda_driver *cuda_driver_open(void) {
    pthread_once(&once, open_driver);
    return *problem == '\0' && !cuda_driver_forked() ? &driver : NULL;
}

const char *cuda_driver_problem(void) {
    if (cuda_driver_open() != NULL) return NULL;
    return *problem != '\0' ? problem
                            : "NVIDIA's driver does not outlive fork(); use the GPU in a process of its own (of "
                              "Python's multiprocessing: spawn)";
}

const char *cuda_text(CUresult result) {
    const char *text = NULL;
    if (driver.cuGetErrorString == NULL || driver.cuGetErrorString(result, &text) != CUDA_SUCCESS || text == NULL)
        return "an error unknown to the driver";
    return text;
}

const char *const cuda_cure = "; its driver serves this process no more, start it again";

bool cuda_is_broken(CUresult result) {
    return result == CUDA_ERROR_ILLEGAL_ADDRESS || result == CUDA_ERROR_LAUNCH_TIMEOUT ||
           (result >= CUDA_ERROR_HARDWARE_STACK_ERROR && result <= CUDA_ERROR_LAUNCH_FAILED);
}
