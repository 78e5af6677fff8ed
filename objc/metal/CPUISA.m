#import "CPUISA.h"

#import <stdlib.h>

#import "CPUError.h"
#import "MTLLibrary.h"

static NSArray *knownISAs(void) {
    return [NSArray arrayWithObjects:@"avx512", @"avx2", @"baseline", @"generic", nil];
}

NSArray *CPUSupportedISAs(void) {
#if defined(__x86_64__)
    NSMutableArray *names = [NSMutableArray array];
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) [names addObject:@"avx512"];
    if (__builtin_cpu_supports("x86-64-v3")) [names addObject:@"avx2"];
    [names addObject:@"baseline"];
    return names;
#else
    return [NSArray arrayWithObject:@"generic"];
#endif
}

NSArray *CPUWantedISAs(NSError **error) {
    NSArray *supported = CPUSupportedISAs();
    const char *text = getenv("OB_ISA");
    if (text == NULL || *text == '\0') return supported;
    NSString *name = [NSString stringWithUTF8String:text];
    if (name != nil && [supported containsObject:name]) return [NSArray arrayWithObject:name];
    BOOL known = name != nil && [knownISAs() containsObject:name];
    CPUSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                @"OB_ISA is '%s', which %s; unset it or choose one of: %@", text,
                known ? "this processor does not have" : "is no instruction set",
                [supported componentsJoinedByString:@", "]);
    return nil;
}
