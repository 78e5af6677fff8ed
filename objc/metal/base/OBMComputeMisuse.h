// The messages of a compute encoder about a dispatch that Metal's validation layer refuses. The encoder
// itself only finds out that something is wrong, which is fast.
#import "OBMComputeCommandEncoder.h"

@interface OBMComputeCommandEncoder (Misuse)

// Raises unless the encoder is open, has a kernel, and the kernel takes threadgroups of this size.
- (void)checkThreads:(MTLSize)threads for:(NSString *)method;

// Says what is wrong with the bindings of the kernel; something is.
- (void)misuseOfBindingsFor:(NSString *)method;

- (void)misuseOfGrid:(MTLSize)grid for:(NSString *)method;

@end
