#import "OBRun.h"
#import "OBChain.h"
#import "OBError.h"

@implementation OBRun

+ (OBRun *)runWithCommandBuffer:(id<MTLCommandBuffer>)commands
                          chain:(OBChain *)chain
                  encodeSeconds:(double)seconds {
    OBRun *run = [[[OBRun alloc] init] autorelease];
    run->_commands = [commands retain];
    run->_chain = [chain retain];
    run->_encodeSeconds = seconds;
    return run;
}

- (void)dealloc {
    // The command buffer does not retain the chain's buffers, so they must outlive it.
    if ([_commands status] >= MTLCommandBufferStatusCommitted) [_commands waitUntilCompleted];
    [_commands release];
    [_chain release];
    [super dealloc];
}

- (BOOL)wait:(NSError **)error {
    [_commands waitUntilCompleted];
    if ([_commands status] != MTLCommandBufferStatusError) return YES;
    OBFail(error, OBErrorRun, @"chain '%@': %@", [_chain label], [[_commands error] localizedDescription]);
    return NO;
}

- (BOOL)done { return [_commands status] >= MTLCommandBufferStatusCompleted; }
- (double)encodeSeconds { return _encodeSeconds; }
- (double)deviceStart { return [_commands GPUStartTime]; }
- (double)deviceEnd { return [_commands GPUEndTime]; }

@end
