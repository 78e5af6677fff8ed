// The kernels of a shader bundle that were written by hand for a processor (native/native.h).
#import "metal/api/MTLDefines.h"
#import "metal/cpu/native/native.h"

// Opens the object of the bundle's native/ folder that suits this processor best, or the instruction
// set in OB_ISA. NULL where there is none, or where they are not wanted; *handle is for dlclose.
const cpu_native_library *CPUOpenNative(NSString *bundle, void **handle);

// NO where OB_NATIVE is 0: then shaders run as they are written.
BOOL CPUWantsNative(void);

// The native kernel of that name, or NULL.
cpu_native_entry CPUFindNative(const cpu_native_library *library, const char *name);
