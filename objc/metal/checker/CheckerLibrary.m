#define _GNU_SOURCE
#import "CheckerLibrary.h"

#import <dlfcn.h>
#import <stdlib.h>

@implementation CheckerLibrary

- (BOOL)openedFolder:(NSString *)path {
    (void)path;
    Dl_info object;
    const metallib_checker **calls = dlsym(_handle, "metallib_checker_calls");
    metallib_loop **loops = dlsym(_handle, "metallib_checker_places");
    uint32_t *turns = dlsym(_handle, "metallib_checker_turns");
    if (calls != NULL) *calls = &check_calls;
    _codes = calloc(_library->function_count + 1, sizeof *_codes);
    if (_codes == NULL || dladdr(_library, &object) == 0) return NO;
    for (uint32_t i = 0; i < _library->function_count; i++)
        _codes[i] = (check_code){.entry = _library->functions[i].entry,
                                 .library = object.dli_fname,
                                 .base = object.dli_fbase,
                                 .loops = loops,
                                 .turns = turns,
                                 .slots = [self slotsOfFunction:&_library->functions[i]]};
    return YES;
}

- (void)dealloc {
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
