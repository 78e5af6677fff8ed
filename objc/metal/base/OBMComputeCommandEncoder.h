// Encodes dispatches into a job. Bindings are snapshots: a dispatch stores the addresses its
// kernel uses, and later binding calls do not change it.
#import "OBMCommandEncoder.h"
#import "OBMKernel.h"
#import "metal/api/MTLComputeCommandEncoder.h"

@class OBMComputePipelineState;

typedef struct {
    char *address;
    size_t available;  // bytes from the address on
    char *base;        // of the buffer; NULL for bytes
    size_t length;
    OBMBuffer *buffer;
} obm_bound;

@interface OBMComputeCommandEncoder : OBMCommandEncoder <MTLComputeCommandEncoder> {
    MTLDispatchType _dispatchType;
    Class _pipelineClass;
    OBMComputePipelineState *_pipeline;
    const obm_kernel *_kernel;
    cpu_costs *_costs;
    cpu_phase *_phase;  // that the next dispatch joins; NULL: it opens one
    uint32_t _boundMask;
    uint32_t _threadgroupMask;
    obm_bound _bound[METALLIB_MAX_BUFFERS];
    uint32_t _threadgroupLengths[METALLIB_MAX_THREADGROUP];
    // How a device that watches its kernels notes what is bound to a dispatch; NULL elsewhere.
    const struct check_dispatch *(*_watch)(id encoder);
}

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer dispatchType:(MTLDispatchType)dispatchType;

@end
