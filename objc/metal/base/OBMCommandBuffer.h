// A command buffer: a recording that encoders fill, and its way through the executor of the device.
//
// One thread encodes and commits it; any thread may wait for it and read its status. It keeps its queue, and itself
// from the commit until it has completed. Misuse raises; a failure at run time is its error.
#import "OBMObject.h"
#import "OBMRecording.h"
#import "core/OBExtensions.h"
#import "OBMMetal.h"

@class OBMCommandEncoder;
@class OBMCommandQueue;

@interface OBMCommandBuffer : OBMObject <MTLCommandBuffer, OBFailureLocation> {
    OBMCommandQueue *_queue;
    obm_recording *_recording;
    const obm_executor *_executor;
    OBMCommandEncoder *_encoder;  // the open one; it keeps the command buffer, not the other way
    struct kept_objects *_kept;
    BOOL _retained;
    MTLCommandBufferErrorOption _errorOptions;
    NSUInteger _debugGroups;
    NSArray *_logs;
}

// Takes the recording over and gives it back to the queue when it goes.
- (id)initWithQueue:(OBMCommandQueue *)queue
          recording:(obm_recording *)recording
           retained:(BOOL)retained
            options:(MTLCommandBufferErrorOption)options;

- (obm_recording *)recording;

// Keeps an object until the command buffer has completed.
- (void)keep:(id)object;

// The open encoder is at its end.
- (void)closeEncoder;

@end
