// A kernel on the checker. It supports indirect command buffers only for those who ask, because encoders tell the
// checker more: a label for each dispatch, and how much of each buffer is meant.
#import "metal/base/OBMComputePipelineState.h"

@interface CheckerComputePipelineState : OBMComputePipelineState {
    BOOL _supportsIndirectCommandBuffers;
}
@end
