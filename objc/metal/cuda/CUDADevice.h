// A GPU of NVIDIA as a device: its name is "cuda:0", "cuda:1" and so on, "cuda" for the first.
//
// Its context is made when something is first made from it. Any thread may use it. A GPU that a kernel broke is lost for
// this process; one on which a kernel does not end is lost for this object.
#import "CUDAContext.h"
#import "CUDAExecutor.h"
#import "core/OBExtensions.h"
#import "metal/base/OBMDevice.h"

@interface CUDADevice : OBMDevice <OBHardwareDevice> {
    cuda_context *_context;
    cuda_executor *_executor;
    NSString *_name;
    BOOL _open;
}

// nil, with why in *problem, if the GPU cannot be used.
- (id)initWithOrdinal:(int)ordinal problem:(const char **)problem;

// Raises when the GPU has no room for a context.
- (const cuda_context *)context;

@end

// For the table of devices: all GPUs there are.
void CUDAAddDevices(NSMutableArray *devices);

// Why there is none, as one line that says what to do; nil where there is one.
NSString *CUDAProblem(void);
