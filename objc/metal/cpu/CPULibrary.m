#import "CPULibrary.h"

#import <dlfcn.h>
#import <stdlib.h>

#import "CPUDevice.h"
#import "metal/base/OBMKernel.h"

@implementation CPULibrary

- (void)addNative:(const cpu_native_table *)table {
    for (size_t i = 0; i < table->count; i++) {
        const metallib_function *function = obm_metallib_find(_library, table->rows[i].name);
        if (function != NULL) _codes[function - _library->functions].native = table->rows[i].entry;
    }
}

- (BOOL)openedFolder:(NSString *)path {
    _codes = calloc(_library->function_count + 1, sizeof *_codes);
    if (_codes == NULL) return NO;
    NSArray *wanted = CPUWantsNative() ? [(CPUDevice *)_device wantedInstructionSets:NULL] : nil;
    const cpu_native_library *native = CPUOpenNative(path, wanted, &_nativeHandle);
    for (uint32_t i = 0; i < _library->function_count; i++) _codes[i].entry = _library->functions[i].entry;
    for (uint32_t t = 0; native != NULL && t < native->table_count; t++) [self addNative:native->tables[t]];
    return YES;
}

- (void)dealloc {
    if (_nativeHandle != NULL) dlclose(_nativeHandle);
    free(_codes);
    [super dealloc];
}

- (const void *)codeOfFunction:(const metallib_function *)function
                        values:(const void *const *)values
                         error:(NSError **)error {
    (void)values;  // a launch brings them
    (void)error;
    return &_codes[function - _library->functions];
}

@end
