// The instruction sets that libraries are compiled for, and which of them this processor has.
#import "metal/api/MTLDefines.h"

// Best first, only those of this processor: "amx", "vnni", "avx512", "avx2", "baseline", or "generic".
// Using AMX needs the operating system's permission, which is asked for here.
NSArray *CPUSupportedISAs(void);

// The ones that may be used: the one in OB_ISA, or all that are supported. nil and an error if OB_ISA
// names one that is unknown or that the processor has not.
NSArray *CPUWantedISAs(NSError **error);

// Those of them that shaders are compiled for: "amx" and "vnni", which only kernels written by hand
// use, stand for "avx512".
NSArray *CPUShaderISAs(NSError **error);
