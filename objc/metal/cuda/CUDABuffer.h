// Memory of the GPU (private storage), of the host and mapped for the GPU (shared storage), or of the caller.
#import "metal/base/OBMBuffer.h"

@interface CUDABuffer : OBMBuffer
@end
