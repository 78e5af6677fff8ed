// Encodes dispatches together with what their arguments are called and how much of each buffer is meant.
#import "metal/base/OBMComputeCommandEncoder.h"

@interface CheckerComputeCommandEncoder : OBMComputeCommandEncoder {
    NSUInteger _lengths[METALLIB_MAX_BUFFERS];
    NSString *_group;
}

// How many bytes from its offset on each buffer just bound is meant to have; 0: all there are. A later
// binding at the index forgets it.
- (void)setBufferLengths:(const NSUInteger[])lengths withRange:(NSRange)range;

@end
