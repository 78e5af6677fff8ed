#import "OBRun.h"
#import "OBChain.h"
#import "OBError.h"
#import "OBExtensions.h"
#import "OBPreparedRuns.h"

@implementation OBRun

+ (OBRun *)runWithCommandBuffer:(id<MTLCommandBuffer>)commands
                          chain:(OBChain *)chain
                       prepared:(OBPreparedRun *)prepared
                  encodeSeconds:(double)seconds {
    OBRun *run = [[[OBRun alloc] init] autorelease];
    if (run == nil) return nil;
    run->_commands = [commands retain];
    run->_chain = [chain retain];
    run->_prepared = [prepared retain];
    run->_encodeSeconds = seconds;
    return run;
}

- (void)dealloc {
    // The command buffer does not retain the chain's buffers, so they must outlive it.
    if ([_commands status] >= MTLCommandBufferStatusCommitted) [_commands waitUntilCompleted];
    [_findings release];
    [_commands release];
    [_prepared release];
    [_chain release];
    [super dealloc];
}

// ", step NAME" where the command buffer knows which dispatch failed; else empty.
- (NSString *)failedStep {
    if (![_commands conformsToProtocol:@protocol(OBFailureLocation)]) return @"";
    NSUInteger index = [(id<OBFailureLocation>)_commands failedDispatch];
    if (index == NSNotFound || index >= [_chain count]) return @"";
    return [@", step " stringByAppendingString:[_chain labelOfDispatch:index]];
}

- (BOOL)wait:(NSError **)error {
    [_commands waitUntilCompleted];
    if ([_commands status] != MTLCommandBufferStatusError) return YES;
    OBFail(error, OBErrorRun, @"chain '%@'%@: %@", [_chain label], [self failedStep],
           [[_commands error] localizedDescription]);
    return NO;
}

static NSDictionary *detailsOfLog(id<MTLFunctionLog> log) {
    NSMutableDictionary *details = [NSMutableDictionary dictionary];
    id<MTLFunctionLogDebugLocation> location = [log debugLocation];
    if ([location functionName] != nil) [details setObject:[location functionName] forKey:@"kernel"];
    if ([location URL] != nil) {
        [details setObject:[[location URL] path] forKey:@"file"];
        [details setObject:[NSString stringWithFormat:@"%llu", (unsigned long long)[location line]] forKey:@"line"];
    }
    if ([log conformsToProtocol:@protocol(OBDetailedLog)]) {
        [details addEntriesFromDictionary:[(id<OBDetailedLog>)log details]];
    }
    [details setObject:[(NSObject *)log description] forKey:@"description"];
    return details;
}

- (NSArray *)findings {
    id<MTLLogContainer> logs = _findings == nil ? [_commands logs] : nil;
    if (logs == nil) return _findings;
    NSMutableArray *findings = [[NSMutableArray alloc] init];
    for (id<MTLFunctionLog> log in logs) [findings addObject:detailsOfLog(log)];
    _findings = findings;
    return _findings;
}

- (BOOL)done {
    return [_commands status] >= MTLCommandBufferStatusCompleted;
}
- (double)encodeSeconds {
    return _encodeSeconds;
}
- (double)deviceStart {
    return [_commands GPUStartTime];
}
- (double)deviceEnd {
    return [_commands GPUEndTime];
}

@end
