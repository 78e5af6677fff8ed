// The instruction sets that libraries are compiled for, and which of them this processor has.
#import "metal/base/OBMMetal.h"

// Best first, only those of this processor: "amx", "vnni", "avx512", "avx2", "baseline", or "generic".
// Using AMX needs the operating system's permission, which is asked for here.
NSArray *CPUSupportedISAs(void);

// The ones that may be used: the one that is asked for, else (nil) the one in OB_ISA, else all that are supported. nil
// and an error for one that is unknown or that the processor does not have.
NSArray *CPUWantedISAs(NSString *asked, NSError **error);

// Those that shaders are compiled for: "amx" and "vnni", which only kernels written by hand use, stand for "avx512".
NSArray *CPUShaderISAs(NSArray *wanted);
