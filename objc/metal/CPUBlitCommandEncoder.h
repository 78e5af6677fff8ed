// Copies and fills, each a phase of its own, spread over the threads in large pieces.
#import "CPUCommandEncoder.h"
#import "MTLBlitCommandEncoder.h"

@interface CPUBlitCommandEncoder : CPUCommandEncoder <MTLBlitCommandEncoder>
@end
