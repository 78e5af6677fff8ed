#define _GNU_SOURCE
#include "CUDACompiler.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nvrtc_program *nvrtc_program;

static struct {
    int (*version)(int *, int *);
    int (*create)(nvrtc_program *, const char *, const char *, int, const char *const *, const char *const *);
    int (*compile)(nvrtc_program, int, const char *const *);
    int (*image_size)(nvrtc_program, size_t *);
    int (*image)(nvrtc_program, char *);
    int (*log_size)(nvrtc_program, size_t *);
    int (*log)(nvrtc_program, char *);
    int (*destroy)(nvrtc_program *);
} nvrtc;
static int found_version;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    const char *symbol;
    void **target;
} symbols[] = {
    {"nvrtcVersion", (void **)&nvrtc.version},        {"nvrtcCreateProgram", (void **)&nvrtc.create},
    {"nvrtcCompileProgram", (void **)&nvrtc.compile}, {"nvrtcGetCUBINSize", (void **)&nvrtc.image_size},
    {"nvrtcGetCUBIN", (void **)&nvrtc.image},         {"nvrtcGetProgramLogSize", (void **)&nvrtc.log_size},
    {"nvrtcGetProgramLog", (void **)&nvrtc.log},      {"nvrtcDestroyProgram", (void **)&nvrtc.destroy},
};

static void *open_library(void) {
    const char *named = getenv("OB_NVRTC");
    if (named != NULL && *named != '\0') return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && library == NULL; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

static void open_compiler(void) {
    void *library = open_library();
    int major, minor;
    if (library == NULL) return;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        *symbols[i].target = dlsym(library, symbols[i].symbol);
        if (*symbols[i].target == NULL) return;
    }
    if (nvrtc.version(&major, &minor) == 0) found_version = major * 1000 + minor * 10;
}

int cuda_compiler_version(void) {
    pthread_once(&once, open_compiler);
    return found_version;
}

static char *log_of(nvrtc_program program) {
    size_t size = 0;
    if (nvrtc.log_size(program, &size) != 0) return NULL;
    char *text = calloc(1, size + 1);
    if (text != NULL) nvrtc.log(program, text);
    return text;
}

static void *image_of(nvrtc_program program, size_t *size) {
    if (nvrtc.image_size(program, size) != 0) return NULL;
    void *image = malloc(*size);
    if (image == NULL || nvrtc.image(program, image) == 0) return image;
    free(image);
    return NULL;
}

bool cuda_compile(const char *source, const char *name, uint32_t number, const char *const *macros,
                  const char *architecture, void **image, size_t *size, char **messages) {
    char kernel[64], target[64];
    snprintf(kernel, sizeof kernel, "-DMETALLIB_KERNEL=%u", number);
    snprintf(target, sizeof target, "--gpu-architecture=%s", architecture);
    // NaN and infinities count, and additions keep their order; a multiplication and an addition may become one.
    const char *const always[] = {kernel, target, "--std=c++17", "-default-device", "--fmad=true", "-w"};
    enum { ALWAYS = sizeof always / sizeof *always };
    int count = ALWAYS;
    for (const char *const *macro = macros; *macro != NULL; macro++) count++;
    *image = NULL;
    *messages = NULL;
    if (cuda_compiler_version() == 0) {
        *messages = strdup(
            "the compiler NVRTC is not there: pip install nvidia-cuda-nvrtc, or name its library in "
            "OB_NVRTC");
        return false;
    }
    const char **options = malloc((size_t)count * sizeof *options);
    if (options == NULL) return false;
    memcpy(options, always, sizeof always);
    memcpy(options + ALWAYS, macros, (size_t)(count - ALWAYS) * sizeof *options);
    nvrtc_program program;
    if (nvrtc.create(&program, source, name, 0, NULL, NULL) != 0) {
        free(options);
        return false;
    }
    if (nvrtc.compile(program, count, options) == 0) *image = image_of(program, size);
    else *messages = log_of(program);
    nvrtc.destroy(&program);
    free(options);
    return *image != NULL;
}
