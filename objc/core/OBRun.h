// One execution of a chain: committed, then complete or failed. It is one command buffer, or several in a row where one
// would take too long.
//
// Safe from any thread. Keeps the chain, and so every buffer, until it is released, and what was prepared
// for its number of rows. A run that is released early completes all the same.
#import "OBMetal.h"

@class OBChain, OBPreparedRun;

// Some dispatches of the chain, and the command buffer that runs them.
typedef struct {
    id<MTLCommandBuffer> commands;
    NSRange range;
} OBPiece;

@interface OBRun : NSObject {
    OBPiece _first;
    OBPiece *_pieces;  // &_first, or memory of its own where there are more
    NSUInteger _count;
    OBChain *_chain;
    OBPreparedRun *_prepared;
    double _encodeSeconds;
    NSArray *_findings;
    BOOL _noted;
}

// Without command buffers yet. nil when there is no memory.
+ (OBRun *)runWithChain:(OBChain *)chain prepared:(OBPreparedRun *)prepared;

// Keeps a command buffer, which is committed next. NO when there is no memory.
- (BOOL)addCommandBuffer:(id<MTLCommandBuffer>)commands range:(NSRange)range;

// Blocks until all its command buffers have completed. NO and an error naming the chain when it failed.
- (BOOL)wait:(NSError **)error;

// YES once all of them have completed or failed; does not block.
@property(readonly) BOOL done;

// The findings of a device that validates shaders, nil for none; call after -wait:, from one thread.
// Each is a dictionary of strings: at least "description", and where it is known "kernel", "file"
// and "line".
- (NSArray *)findings;

// Host time spent on encoding, and the device's start and end times, in seconds.
@property double encodeSeconds;
@property(readonly) double deviceStart;
@property(readonly) double deviceEnd;

@end
