// The C face of the core, called as a program in C calls it: what cannot be is an error that is filled in, and what was
// to be filled in is empty. Prints one line per check. Arguments: the test library's folder and the device's name.
#include "core/onebuf.h"

#include <stdio.h>
#include <string.h>

static int failed;

static void report(const char *name, int passed, const ob_error *error) {
    printf("%s %s: %d %s\n", passed ? "ok" : "FAILED", name, error->code, error->message);
    failed += !passed;
}

static ob_error unset(void) { return (ob_error){-99, "nobody filled this in"}; }

// The call must fail with this code and with a message that has the words.
#define CHECK_ERROR(name, failing, expected, words)                                                   \
    do {                                                                                              \
        ob_error error = unset();                                                                     \
        int went_wrong = (failing);                                                                   \
        report(name, went_wrong && error.code == (expected) && strstr(error.message, words), &error); \
    } while (0)

static void check_kernel(ob_kernel *kernel) {
    ob_argument argument;
    ob_member member;
    memset(&argument, 0xEE, sizeof argument);
    memset(&member, 0xEE, sizeof member);
    size_t count = ob_kernel_arguments(kernel);
    CHECK_ERROR("an argument beyond the last", ob_kernel_argument(kernel, count, &argument, &error) < 0, OB_ARGUMENT,
                "out of range");
    report("it is empty", argument.name[0] == 0 && argument.size == 0, &(ob_error){0, ""});
    CHECK_ERROR("a member beyond the last", ob_kernel_member(kernel, 0, 1000, &member, &error) < 0, OB_ARGUMENT,
                "out of range");
    report("it is empty", member.name[0] == 0 && member.offset == 0, &(ob_error){0, ""});
    ob_error error = unset();
    report("an argument", ob_kernel_argument(kernel, 0, &argument, &error) == 0 && argument.name[0] != 0, &error);
}

static void check_library(ob_library *library) {
    char name[64] = "before";
    size_t count = 0;
    ob_error error = unset();
    report("its kernels are counted", ob_library_count(library, &count, &error) == 0 && count > 0, &error);
    CHECK_ERROR("a name beyond the last", ob_library_name(library, count, name, sizeof name, &error) < 0, OB_ARGUMENT,
                "");
    report("it is empty", name[0] == 0, &(ob_error){0, ""});
    CHECK_ERROR("a kernel that is not there", ob_kernel_find(library, "absent", &error) == NULL, OB_COMPILE, "absent");
    ob_kernel *kernel = ob_kernel_find(library, "add", &error);
    report("a kernel", kernel != NULL, &error);
    if (kernel != NULL) check_kernel(kernel);
    ob_release(kernel);
}

static void check_chain(ob_device *device, ob_library *library) {
    ob_error error = unset();
    ob_dispatch dispatch = {.kernel = ob_kernel_find(library, "add", &error), .threadgroups = {1, 1, 1}};
    CHECK_ERROR("a chain without dispatches", ob_chain_new(device, &dispatch, 0, "empty", &error) == NULL, OB_ARGUMENT,
                "empty");
    CHECK_ERROR("a dispatch without buffers", ob_chain_new(device, &dispatch, 1, "bare", &error) == NULL, OB_ARGUMENT,
                "not bound");
    ob_release(dispatch.kernel);
}

static void check_run(ob_device *device, ob_library *library) {
    ob_error error = unset();
    ob_buffer *buffer = ob_buffer_new(device, 64, OB_SHARED, &error);
    uint32_t n = 4;
    ob_binding bindings[] = {{buffer, 0, 16, 0}, {buffer, 16, 16, 1}, {buffer, 32, 16, 2}};
    ob_dispatch dispatch = {.kernel = ob_kernel_find(library, "add", &error),
                            .bindings = bindings,
                            .binding_count = 3,
                            .bytes = &n,
                            .byte_count = sizeof n,
                            .bytes_slot = 3,
                            .threadgroups = {1, 1, 1},
                            .threads = {4, 1, 1}};
    ob_chain *chain = ob_chain_new(device, &dispatch, 1, "adds", &error);
    ob_run *run = chain == NULL ? NULL : ob_chain_commit(chain, (ob_rows){0}, &error);
    report("a run", run != NULL && ob_run_wait(run, &error) == 0, &error);
    size_t count = 9;
    char text[8] = "before";
    report("its findings", run != NULL && ob_run_findings(run, &count, &error) == 0 && count == 0, &error);
    int status = run == NULL ? 0 : ob_run_finding(run, 5, "kind", text, sizeof text, &error);
    report("a finding that is not there", status != 0 && text[0] == 0, &error);
    ob_release(run);
    ob_release(chain);
    ob_release(dispatch.kernel);
    ob_release(buffer);
}

static void check_names(void) {
    char name[64] = "before", problem[256] = "before";
    size_t count = 0;
    ob_error error = unset();
    report("devices are counted", ob_device_count(&count, &error) == 0 && count > 0, &error);
    report("the last has a name", ob_device_name(count - 1, name, sizeof name, &error) == 0 && name[0] != 0, &error);
    CHECK_ERROR("a device beyond the last", ob_device_name(count, name, sizeof name, &error) < 0, OB_ARGUMENT, "");
    report("its name is empty", name[0] == 0, &(ob_error){0, ""});
    report("nothing is known of it", ob_device_problem("absent", problem, sizeof problem, &error) == 0 && !problem[0],
           &error);
}

int main(int count, char **words) {
    if (count != 3) return 2;
    ob_error error = unset();
    ob_device_info info;
    check_names();
    CHECK_ERROR("a device that is not there", ob_device_open("absent", NULL, &error) == NULL, OB_DEVICE, "absent");
    ob_device *device = ob_device_open(words[2], NULL, &error);
    report("a device", device != NULL, &error);
    if (device == NULL) return 1;
    report("it is described", ob_device_describe(device, &info, &error) == 0 && info.name[0] != 0, &error);
    CHECK_ERROR("a library that is not there", ob_library_open(device, "/absent", &error) == NULL, OB_COMPILE,
                "absent");
    CHECK_ERROR("an empty buffer", ob_buffer_new(device, 0, OB_SHARED, &error) == NULL, OB_MEMORY, "0 bytes");
    CHECK_ERROR("memory that is no page", ob_buffer_wrap(device, &info, 5, &error) == NULL, OB_MEMORY, "wrapped");
    ob_library *library = ob_library_open(device, words[1], &error);
    report("a library", library != NULL, &error);
    if (library != NULL) {
        check_library(library);
        check_chain(device, library);
        check_run(device, library);
    }
    ob_release(library);
    ob_release(device);
    ob_release(NULL);
    return failed == 0 ? 0 : 1;
}
