// The devices of this folder. On macOS they stand beside Apple's, which Metal's own functions give; elsewhere Metal's
// functions give these. Any thread may call these functions.
#import "metal/base/OBMMetal.h"

// All of them, owned by the caller. The first is the best, and the last is always there.
NSArray *OBMCopyAllDevices(void);

// The best of them, owned by the caller, made without the others.
id<MTLDevice> OBMCreateDefaultDevice(void);

// The device of that name, its case ignored, owned by the caller, without making the others; nil where there is none. Of
// several devices of a kind, such as cuda:0 and cuda:1, the kind alone means the first.
id<MTLDevice> OBMCopyDeviceNamed(NSString *name);

// Why this machine has no device of that name, as one line that says what to do; nil where no such device is known.
NSString *OBMProblemOfDevice(NSString *name);

// Each system has its own version of these two, in devicesLinux.m or devicesDarwin.m. The first adds the GPUs that a folder
// here drives. The second says why there is no GPU of a kind, "cuda" or "metal".
void OBMAddGPUs(NSMutableArray *devices);
NSString *OBMProblemOfGPU(NSString *kind);
