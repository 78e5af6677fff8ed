#import "CPUNative.h"

#import <dlfcn.h>
#import <stdlib.h>
#import <string.h>
#import <unistd.h>

#import "metal/base/OBMObjectFile.h"

static NSString *objectFor(NSString *isa, NSString *bundle) {
    NSString *name = [@"native" stringByAppendingPathComponent:[isa stringByAppendingString:@".so"]];
    return [bundle stringByAppendingPathComponent:name];
}

BOOL CPUWantsNative(void) {
    const char *text = getenv("OB_NATIVE");
    return text == NULL || strcmp(text, "0") != 0;
}

const cpu_native_library *CPUOpenNative(NSString *bundle, NSArray *instructionSets, void **handle) {
    for (NSString *name in instructionSets) {
        const char *path = [objectFor(name, bundle) fileSystemRepresentation];
        if (access(path, R_OK) != 0) continue;
        *handle = obm_object_open(path);
        if (*handle == NULL) continue;
        const cpu_native_library *library = dlsym(*handle, "ob_native");
        if (library != NULL && library->abi == CPU_NATIVE_ABI) return library;
        dlclose(*handle);
        *handle = NULL;
    }
    return NULL;
}
