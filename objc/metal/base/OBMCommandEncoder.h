// The part that encoders share: they add to the recording of a command buffer while they are open. One thread uses an encoder.
#import "OBMCommandBuffer.h"
#import "OBMObject.h"
#import "OBMMetal.h"

@interface OBMCommandEncoder : OBMObject <MTLCommandEncoder> {
    OBMCommandBuffer *_commandBuffer;
    obm_recording *_recording;
    Class _bufferClass;
    id<MTLDevice> _device;  // the command buffer keeps it
    BOOL _ended;
    BOOL _retains;  // whether the command buffer keeps what is encoded
    NSUInteger _debugGroups;
}

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer;

// Raises misuse that names this encoder, its command buffer and the method.
- (void)misuseIn:(NSString *)method
          format:(NSString *)format, ... __attribute__((noreturn, format(__NSString__, 2, 3)));

// The same, unless the fault is nil.
- (void)refuse:(NSString *)fault for:(NSString *)method;

- (void)requireOpenFor:(NSString *)method;

// Raises unless the buffer is one of this device and holds the range.
- (void)requireBuffer:(id)buffer offset:(NSUInteger)offset size:(NSUInteger)size for:(NSString *)method;

// The recording could not grow; the command buffer will fail when it is committed.
- (void)failForMemory;

@end
