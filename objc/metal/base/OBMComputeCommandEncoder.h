// Encodes dispatches into a recording. Bindings are snapshots: a dispatch stores the addresses that its
// kernel uses, and later binding calls do not change it. One thread uses an encoder.
#import "OBMCommandEncoder.h"
#import "metal/api/MTLComputeCommandEncoder.h"

@class OBMComputePipelineState;

// What is bound to an index at present.
typedef struct {
    char *address;
    size_t available;     // bytes from the address on
    obm_binding binding;  // what a dispatch records: of those, as many as the caller means
} obm_bound;

@interface OBMComputeCommandEncoder : OBMCommandEncoder <MTLComputeCommandEncoder> {
    MTLDispatchType _dispatchType;
    Class _pipelineClass;
    OBMComputePipelineState *_pipeline;
    const obm_kernel *_kernel;
    obm_phase *_phase;  // that the next dispatch joins; NULL: it opens one
    NSMutableArray *_groups;     // open debug groups
    const char *_dispatchLabel;  // in the arena
    uint32_t _boundMask;
    uint32_t _threadgroupMask;
    obm_bound _bound[METALLIB_MAX_BUFFERS];
    uint32_t _threadgroupLengths[METALLIB_MAX_THREADGROUP];
}

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer dispatchType:(MTLDispatchType)dispatchType;

@end
