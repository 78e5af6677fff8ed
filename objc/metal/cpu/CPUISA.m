#define _GNU_SOURCE
#import "CPUISA.h"

#import <stdlib.h>
#if defined(__x86_64__) && defined(__linux__)
#import <cpuid.h>
#import <sys/syscall.h>
#import <unistd.h>
#endif

#import "metal/base/OBMMetal.h"
#import "metal/base/OBMError.h"

static NSArray *knownISAs(void) {
    return [NSArray arrayWithObjects:@"amx", @"vnni", @"avx512", @"avx2", @"baseline", @"generic", nil];
}

#if defined(__x86_64__)
// The levels of the x86-64 psABI, by name where the compiler knows them.
#if !defined(__clang__) && __GNUC__ >= 12
#define HAS_AVX512 __builtin_cpu_supports("x86-64-v4")
#define HAS_AVX2 __builtin_cpu_supports("x86-64-v3")
#else
#define HAS_AVX2                                                                                         \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && \
     __builtin_cpu_supports("bmi2"))
#define HAS_AVX512                                                                          \
    (HAS_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
     __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
#endif
#endif

#if defined(__x86_64__) && defined(__linux__)
// Tiles of integers: the processor has them, the kernel keeps their registers (XCR0), and lets this
// process use them (Intel's "AMX: Linux user guide"; arch_prctl(2)).
static BOOL mayUseTiles(void) {
    enum { GET_PERMISSION = 0x1022, ASK_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c >> 27 & 1) == 0) return NO;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3) return NO;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low >> 17 & 3) != 3) return NO;
    unsigned long granted = 0;
    if (syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) != 0) return NO;
    return syscall(SYS_arch_prctl, GET_PERMISSION, &granted) == 0 && (granted >> TILE_DATA & 1) == 1;
}
#endif

NSArray *CPUSupportedISAs(void) {
#if defined(__x86_64__)
    NSMutableArray *names = [NSMutableArray array];
    __builtin_cpu_init();
    if (HAS_AVX512) {
#if defined(__linux__)
        if (__builtin_cpu_supports("avx512vnni") && mayUseTiles()) [names addObject:@"amx"];
#endif
        if (__builtin_cpu_supports("avx512vnni")) [names addObject:@"vnni"];
        [names addObject:@"avx512"];
    }
    if (HAS_AVX2) [names addObject:@"avx2"];
    [names addObject:@"baseline"];
    return names;
#else
    return [NSArray arrayWithObject:@"generic"];
#endif
}

NSArray *CPUWantedISAs(NSString *asked, NSError **error) {
    NSArray *supported = CPUSupportedISAs();
    const char *text = getenv("OB_ISA");
    NSString *name = asked;
    if (asked == nil) {
        if (text == NULL || *text == '\0') return supported;
        name = [NSString stringWithUTF8String:text];
    }
    if (name != nil && [supported containsObject:name]) return [NSArray arrayWithObject:name];
    BOOL known = name != nil && [knownISAs() containsObject:name];
    NSString *problem = known ? @"this processor does not have" : @"is no instruction set";
    NSString *others = [supported componentsJoinedByString:@", "];
    if (asked != nil) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                    @"the instruction set '%@' was asked for, which %@; choose one of: %@", asked, problem, others);
    } else {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                    @"OB_ISA is '%s', which %@; unset it or choose one of: %@", text, problem, others);
    }
    return nil;
}

NSArray *CPUShaderISAs(NSArray *wanted) {
    NSMutableArray *names = [NSMutableArray array];
    for (NSString *name in wanted) {
        BOOL extension = [name isEqualToString:@"amx"] || [name isEqualToString:@"vnni"];
        NSString *shaders = extension ? @"avx512" : name;
        if (![names containsObject:shaders]) [names addObject:shaders];
    }
    return names;
}
