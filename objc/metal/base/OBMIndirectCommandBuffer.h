// Commands that are recorded once and executed by any number of command buffers (OBMCommands.h).
//
// One thread at a time records, and none while a command buffer that executes the commands is unfinished. Any number of
// threads may execute them. What a command refers to is not retained.
#import "OBMBindingTable.h"
#import "OBMCommands.h"
#import "OBMResource.h"
#import "OBMSizes.h"
#import "OBMMetal.h"

// What is set for a command.
typedef struct {
    const obm_kernel *kernel;  // NULL: no pipeline state
    obm_binding_table table;
    OBMSizes sizes;
    BOOL dispatched;    // it has sizes
    BOOL unfinished;    // something is set, but not all that a dispatch needs
    obm_dispatch *own;  // memory for its dispatch, once there was one
    size_t capacity;    // bytes of that
} OBMCommandState;

@interface OBMIndirectCommandBuffer : OBMResource <MTLIndirectCommandBuffer> {
@public
    obm_commands _commands;  // the encoder reads it directly

@private
    MTLIndirectCommandType _types;
    NSUInteger _bufferCount, _threadgroupCount;  // of indices that a command has
    OBMCommandState *_states;
    obm_bound *_bounds;
    obm_arena _arena;       // of the dispatches
    NSUInteger _allocated;  // bytes
    NSUInteger _unfinished;
    BOOL _full;  // there was no memory for a dispatch
}

// Raises misuse when the descriptor asks for what is not possible. nil when there is no memory left.
- (id)initWithDevice:(OBMDevice *)device
          descriptor:(MTLIndirectCommandBufferDescriptor *)descriptor
               count:(NSUInteger)count
             options:(MTLResourceOptions)options;

// For the commands of the buffer. What is set is changed in the state, and then the command is recorded anew.
- (OBMCommandState *)stateAtIndex:(NSUInteger)index;
- (void)recordAtIndex:(NSUInteger)index;
- (void)setBarrier:(BOOL)barrier atIndex:(NSUInteger)index;
- (MTLIndirectCommandType)commandTypes;
- (NSUInteger)bufferCount;
- (NSUInteger)threadgroupCount;

// Why the commands cannot be executed, as text for a misuse; nil: they can.
- (NSString *)faultOfRange:(NSRange)range;

// Whether a command is not recorded, because there was no memory for it.
- (BOOL)lacksMemory;

@end

// The same, for any object.
NSString *OBMFaultOfExecution(id buffer, OBMDevice *device, NSRange range);
