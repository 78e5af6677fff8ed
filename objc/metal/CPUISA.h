// The instruction sets that libraries are compiled for, and which of them this processor has.
#import "MTLDefines.h"

// Best first, only those of this processor: "avx512", "avx2", "baseline", or "generic".
NSArray *CPUSupportedISAs(void);

// The ones to look for in a library: the one in OB_ISA, or all that are supported. nil and an
// error if OB_ISA names one that is unknown or that the processor has not.
NSArray *CPUWantedISAs(NSError **error);
