// NVRTC without a compiler, for tests with the driver of fake_cuda.c: what it makes of any text is the path of the
// library that FAKE_NVRTC_CODE names, which that driver takes as machine code.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct nvrtc_program *program;

EXPORT int nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return 0;
}
EXPORT int nvrtcCreateProgram(program *made, const char *source, const char *name, int count,
                              const char *const *headers, const char *const *names) {
    (void)source, (void)name, (void)count, (void)headers, (void)names;
    *made = NULL;
    return 0;
}
EXPORT int nvrtcCompileProgram(program given, int count, const char *const *options) {
    (void)given, (void)count, (void)options;
    return 0;
}
EXPORT int nvrtcGetCUBINSize(program given, size_t *size) {
    (void)given;
    *size = strlen(getenv("FAKE_NVRTC_CODE")) + 2;
    return 0;
}
EXPORT int nvrtcGetCUBIN(program given, char *image) {
    (void)given;
    sprintf(image, "%s\n", getenv("FAKE_NVRTC_CODE"));
    return 0;
}
EXPORT int nvrtcGetProgramLogSize(program given, size_t *size) {
    (void)given;
    *size = 1;
    return 0;
}
EXPORT int nvrtcGetProgramLog(program given, char *log) {
    (void)given;
    *log = '\0';
    return 0;
}
EXPORT int nvrtcDestroyProgram(program *given) {
    (void)given;
    return 0;
}
