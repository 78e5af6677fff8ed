#import "CPUISA.h"

#import <stdlib.h>

#import "CPUError.h"
#import "MTLLibrary.h"

static NSArray *knownISAs(void) {
    return [NSArray arrayWithObjects:@"avx512", @"avx2", @"baseline", @"generic", nil];
}

#if defined(__x86_64__)
// The levels of the x86-64 psABI, by name where the compiler knows them.
#if defined(__clang__) || __GNUC__ >= 12
#define HAS_AVX512 __builtin_cpu_supports("x86-64-v4")
#define HAS_AVX2 __builtin_cpu_supports("x86-64-v3")
#else
#define HAS_AVX2                                                                    \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&             \
     __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
#define HAS_AVX512                                                                  \
    (HAS_AVX2 && __builtin_cpu_supports("avx512f") &&                               \
     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&    \
     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
#endif
#endif

NSArray *CPUSupportedISAs(void) {
#if defined(__x86_64__)
    NSMutableArray *names = [NSMutableArray array];
    __builtin_cpu_init();
    if (HAS_AVX512) [names addObject:@"avx512"];
    if (HAS_AVX2) [names addObject:@"avx2"];
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
