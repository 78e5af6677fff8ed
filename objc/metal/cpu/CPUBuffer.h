// Memory of the host, from the heap, from whole pages, or the caller's: kernels see it where the host does.
#import "metal/base/OBMBuffer.h"

@interface CPUBuffer : OBMBuffer {
    NSUInteger _mapped;  // bytes to unmap; 0 if the memory comes from the heap or from the caller
    char *_allocated;    // to free; NULL if it comes from elsewhere
}
@end
