#import "metal/cuda/CUDADevice.h"
#import "metal/devices.h"

// Metal's functions, which no system gives here.
NSArray *MTLCopyAllDevices(void) { return OBMCopyAllDevices(); }
id<MTLDevice> MTLCreateSystemDefaultDevice(void) { return OBMCreateDefaultDevice(); }

void OBMAddGPUs(NSMutableArray *devices) { CUDAAddDevices(devices); }

NSString *OBMProblemOfGPU(NSString *kind) {
    return [kind isEqualToString:@"metal"] ? @"Apple's GPUs are on macOS" : CUDAProblem();
}
