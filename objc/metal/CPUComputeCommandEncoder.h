// Encodes dispatches into a job. Bindings are snapshots: a dispatch stores the addresses its
// kernel uses, and later binding calls do not change it.
#import "CPUCommandEncoder.h"
#import "CPUKernel.h"
#import "MTLComputeCommandEncoder.h"

@class CPUComputePipelineState;

typedef struct {
    char *address;
    size_t available;  // bytes from the address on
    char *base;        // of the buffer; NULL for bytes
    size_t length;
    CPUBuffer *buffer;
} cpu_bound;

@interface CPUComputeCommandEncoder : CPUCommandEncoder <MTLComputeCommandEncoder> {
    MTLDispatchType _dispatchType;
    Class _pipelineClass;
    CPUComputePipelineState *_pipeline;
    const cpu_kernel *_kernel;
    cpu_costs *_costs;
    cpu_phase *_phase;  // that the next dispatch joins; NULL: it opens one
    uint32_t _boundMask;
    uint32_t _threadgroupMask;
    cpu_bound _bound[METALLIB_MAX_BUFFERS];
    uint32_t _threadgroupLengths[METALLIB_MAX_THREADGROUP];
    // How a device that watches its kernels notes what is bound to a dispatch; NULL elsewhere.
    const struct check_dispatch *(*_watch)(id encoder);
}

- (id)initWithCommandBuffer:(CPUCommandBuffer *)commandBuffer dispatchType:(MTLDispatchType)dispatchType;

@end
