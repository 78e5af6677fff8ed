// Encodes dispatches into a recording. Bindings are snapshots: a dispatch stores the addresses that its
// kernel uses, and later binding calls do not change it. One thread uses an encoder.
#import "OBMBindingTable.h"
#import "OBMCommandEncoder.h"
#import "OBMMetal.h"

@class OBMComputePipelineState;

@interface OBMComputeCommandEncoder : OBMCommandEncoder <MTLComputeCommandEncoder> {
    MTLDispatchType _dispatchType;
    Class _pipelineClass;
    OBMComputePipelineState *_pipeline;
    const obm_kernel *_kernel;
    obm_phase *_phase;           // that the next dispatch joins; NULL: it opens one
    NSMutableArray *_groups;     // open debug groups
    const char *_dispatchLabel;  // in the arena
    const obm_use *_uses;        // likewise, the latest first
    obm_binding_table _table;
    obm_bound _buffers[METALLIB_MAX_BUFFERS];  // the table's
}

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer dispatchType:(MTLDispatchType)dispatchType;

@end
