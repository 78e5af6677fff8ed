#import "CPUNative.h"

#import <dlfcn.h>
#import <stdlib.h>
#import <string.h>
#import <unistd.h>

#import "CPUISA.h"

static NSString *objectFor(NSString *isa, NSString *bundle) {
    NSString *name = [@"native" stringByAppendingPathComponent:[isa stringByAppendingString:@".so"]];
    return [bundle stringByAppendingPathComponent:name];
}

BOOL CPUWantsNative(void) {
    const char *text = getenv("OB_NATIVE");
    return text == NULL || strcmp(text, "0") != 0;
}

const cpu_native_library *CPUOpenNative(NSString *bundle, void **handle) {
    if (!CPUWantsNative()) return NULL;
    for (NSString *name in CPUWantedISAs(NULL)) {
        const char *path = [objectFor(name, bundle) fileSystemRepresentation];
        if (access(path, R_OK) != 0) continue;
        *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (*handle == NULL) continue;
        const cpu_native_library *library = dlsym(*handle, "ob_native");
        if (library != NULL && library->abi == CPU_NATIVE_ABI) return library;
        dlclose(*handle);
        *handle = NULL;
    }
    return NULL;
}

cpu_native_entry CPUFindNative(const cpu_native_library *library, const char *name) {
    for (uint32_t t = 0; library != NULL && t < library->table_count; t++) {
        const cpu_native_table *table = library->tables[t];
        for (size_t i = 0; i < table->count; i++) {
            if (strcmp(table->rows[i].name, name) == 0) return table->rows[i].entry;
        }
    }
    return NULL;
}
