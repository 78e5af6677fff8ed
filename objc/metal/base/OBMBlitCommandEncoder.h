// Copies and fills, each a phase of its own. One thread uses an encoder.
#import "OBMCommandEncoder.h"
#import "OBMMetal.h"

@interface OBMBlitCommandEncoder : OBMCommandEncoder <MTLBlitCommandEncoder>
@end
