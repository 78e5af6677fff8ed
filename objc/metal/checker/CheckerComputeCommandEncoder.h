// Encodes dispatches together with how much of each buffer is meant.
#import "core/OBExtensions.h"
#import "metal/base/OBMComputeCommandEncoder.h"

@interface CheckerComputeCommandEncoder : OBMComputeCommandEncoder <OBMeasuringEncoder>
@end
