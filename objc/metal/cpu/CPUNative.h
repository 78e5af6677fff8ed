// The kernels of a shader bundle that were written by hand for a processor (native/native.h).
#import "metal/base/OBMMetal.h"
#import "metal/cpu/native/native.h"

// Opens the first of the named instruction sets that the bundle's native/ folder has. NULL where it has none of them;
// *handle is for dlclose.
const cpu_native_library *CPUOpenNative(NSString *bundle, NSArray *instructionSets, void **handle);

// NO where OB_NATIVE is 0: then shaders run as they are written.
BOOL CPUWantsNative(void);
