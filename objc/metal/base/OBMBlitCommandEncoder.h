// Copies and fills, each a phase of its own. One thread uses an encoder.
#import "OBMCommandEncoder.h"
#import "metal/api/MTLBlitCommandEncoder.h"

@interface OBMBlitCommandEncoder : OBMCommandEncoder <MTLBlitCommandEncoder>
@end
