// A command buffer: a job that encoders fill, and its way through the pool.
#import "metal/cpu/CPUJob.h"
#import "OBMObject.h"
#import "metal/api/MTLCommandBuffer.h"

@class OBMCommandEncoder;
@class OBMCommandQueue;

@interface OBMCommandBuffer : OBMObject <MTLCommandBuffer> {
    OBMCommandQueue *_queue;
    cpu_job *_job;
    OBMCommandEncoder *_encoder;  // the open one; it keeps the command buffer, not the other way
    struct kept_objects *_kept;
    BOOL _retained;
    MTLCommandBufferErrorOption _errorOptions;
    NSUInteger _debugGroups;
    NSArray *_logs;
}

// Takes the job over and gives it back to the queue when it goes.
- (id)initWithQueue:(OBMCommandQueue *)queue
                job:(cpu_job *)job
           retained:(BOOL)retained
            options:(MTLCommandBufferErrorOption)options;

- (cpu_job *)job;

// Keeps an object until the command buffer has completed.
- (void)keep:(id)object;

// The open encoder is at its end.
- (void)closeEncoder;

@end
