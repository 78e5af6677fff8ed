// One execution of a chain: committed, then complete or failed.
//
// Safe from any thread. Keeps the chain, and so every buffer, until it is released, and what was prepared
// for its number of rows. A run that is released early completes all the same.
#import "OBMetal.h"

@class OBChain, OBPreparedRun;

@interface OBRun : NSObject {
    id<MTLCommandBuffer> _commands;
    OBChain *_chain;
    OBPreparedRun *_prepared;
    double _encodeSeconds;
    NSArray *_findings;
}

// nil when there is no memory.
+ (OBRun *)runWithCommandBuffer:(id<MTLCommandBuffer>)commands
                          chain:(OBChain *)chain
                       prepared:(OBPreparedRun *)prepared
                  encodeSeconds:(double)seconds;

// Blocks until the command buffer has completed. NO and an error naming the chain when it failed.
- (BOOL)wait:(NSError **)error;

// YES once the command buffer has completed or failed; does not block.
@property(readonly) BOOL done;

// The findings of a device that validates shaders, nil for none; call after -wait:, from one thread.
// Each is a dictionary of strings: at least "description", and where it is known "kernel", "file"
// and "line".
- (NSArray *)findings;

// Host time spent on encoding, and the device's start and end times, in seconds.
@property(readonly) double encodeSeconds;
@property(readonly) double deviceStart;
@property(readonly) double deviceEnd;

@end
