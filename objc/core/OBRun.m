#import "OBRun.h"
#import "OBChain.h"
#import "OBError.h"
#import "OBExtensions.h"
#import "OBPieces.h"
#import "OBPreparedRuns.h"

@interface OBRun ()
- (void)note;
@end

@implementation OBRun

+ (OBRun *)runWithChain:(OBChain *)chain prepared:(OBPreparedRun *)prepared {
    OBRun *run = [[[OBRun alloc] init] autorelease];
    if (run == nil) return nil;
    run->_chain = [chain retain];
    run->_prepared = [prepared retain];
    run->_pieces = &run->_first;
    return run;
}

- (BOOL)addCommandBuffer:(id<MTLCommandBuffer>)commands range:(NSRange)range {
    if (_count > 0) {
        OBPiece *own = _pieces == &_first ? NULL : _pieces;
        OBPiece *more = realloc(own, (_count + 1) * sizeof *more);
        if (more == NULL) return NO;
        if (own == NULL) more[0] = _first;
        _pieces = more;
    }
    _pieces[_count++] = (OBPiece){[commands retain], range};
    return YES;
}

- (void)dealloc {
    // The command buffers do not retain the chain's buffers, so these must outlive them.
    for (NSUInteger i = 0; i < _count; i++) {
        id<MTLCommandBuffer> commands = _pieces[i].commands;
        if ([commands status] >= MTLCommandBufferStatusCommitted) [commands waitUntilCompleted];
        [commands release];
    }
    if (_pieces != &_first) free(_pieces);
    [_findings release];
    [_prepared release];
    [_chain release];
    [super dealloc];
}

// ", step NAME" where the command buffer knows which dispatch failed; else empty.
- (NSString *)failedStepOf:(const OBPiece *)piece {
    if (![piece->commands conformsToProtocol:@protocol(OBFailureLocation)]) return @"";
    NSUInteger index = [(id<OBFailureLocation>)piece->commands failedDispatch];
    if (index == NSNotFound || piece->range.location + index >= [_chain count]) return @"";
    return [@", step " stringByAppendingString:[_chain labelOfDispatch:piece->range.location + index]];
}

// Tells the user what helps when a command buffer took too long: the chain cannot cut it below one dispatch.
static NSString *remedy(NSError *error) {
    BOOL late = [error code] == MTLCommandBufferErrorTimeout && [[error domain] isEqual:MTLCommandBufferErrorDomain];
    return late ? @"; fewer rows per step take less time each (--prompt-rows)" : @"";
}

- (BOOL)wait:(NSError **)error {
    // All of them, also where an early one has failed: then nothing uses the chain's buffers any more.
    for (NSUInteger i = 0; i < _count; i++) [_pieces[i].commands waitUntilCompleted];
    for (NSUInteger i = 0; i < _count; i++) {
        const OBPiece *piece = &_pieces[i];
        if ([piece->commands status] != MTLCommandBufferStatusError) continue;
        NSError *cause = [piece->commands error];
        OBFail(error, OBErrorRun, @"chain '%@'%@: %@%@", [_chain label], [self failedStepOf:piece],
               [cause localizedDescription], remedy(cause));
        return NO;
    }
    if (!_noted) [self note];
    _noted = YES;
    return YES;
}

// Tells the chain how long its dispatches took.
- (void)note {
    OBPieces *pieces = [_chain pieces];
    for (NSUInteger i = 0;[pieces watched] && i < _count; i++) {
        id<MTLCommandBuffer> commands = _pieces[i].commands;
        [pieces noteSeconds:[commands GPUEndTime] - [commands GPUStartTime]
                    ofRange:_pieces[i].range
                       rows:[_prepared rows]];
    }
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
    if (_findings != nil) return _findings;
    NSMutableArray *findings = nil;
    for (NSUInteger i = 0; i < _count; i++) {
        id<MTLLogContainer> logs = [_pieces[i].commands logs];
        if (logs == nil) continue;
        if (findings == nil) findings = [[NSMutableArray alloc] init];
        for (id<MTLFunctionLog> log in logs) [findings addObject:detailsOfLog(log)];
    }
    _findings = findings;
    return _findings;
}

- (BOOL)done {
    for (NSUInteger i = _count; i > 0; i--) {
        if ([_pieces[i - 1].commands status] < MTLCommandBufferStatusCompleted) return NO;
    }
    return YES;
}
- (double)encodeSeconds {
    return _encodeSeconds;
}
- (void)setEncodeSeconds:(double)seconds {
    _encodeSeconds = seconds;
}
- (double)deviceStart {
    return _count > 0 ? [_pieces[0].commands GPUStartTime] : 0;
}
- (double)deviceEnd {
    return _count > 0 ? [_pieces[_count - 1].commands GPUEndTime] : 0;
}

@end
