// Copies and fills, each a phase of its own, spread over the threads in large pieces.
#import "OBMCommandEncoder.h"
#import "metal/api/MTLBlitCommandEncoder.h"

@interface OBMBlitCommandEncoder : OBMCommandEncoder <MTLBlitCommandEncoder>
@end
