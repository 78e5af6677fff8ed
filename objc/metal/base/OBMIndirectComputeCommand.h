// One command of an indirect command buffer: a handle, which checks what is set, and keeps the buffer. What is set is
// kept by the buffer, so that any handle of the index goes on where another ended.
#import "OBMIndirectCommandBuffer.h"

@interface OBMIndirectComputeCommand : OBMObject <MTLIndirectComputeCommand> {
    OBMIndirectCommandBuffer *_buffer;
    NSUInteger _index;
    OBMCommandState *_state;
}

// The buffer has the index.
- (id)initWithBuffer:(OBMIndirectCommandBuffer *)buffer index:(NSUInteger)index;

@end
