// What the runs of a chain execute: for each number of rows its struct arguments and, where every pipeline state
// supports indirect command buffers, its commands, which are recorded once.
//
// Safe from any thread. What was prepared for the numbers of rows that ran last is kept and never changes, so runs of
// different numbers may be in flight together. A run retains what it executes.
#import "OBStructArguments.h"

enum { OB_KEPT_RUNS = 8 };  // numbers of rows, besides all

// Immutable. It retains no kernel, and no buffer but its own: the chain does.
@interface OBPreparedRun : NSObject {
    ob_rows _rows;
    id<MTLBuffer> _structs;
    id<MTLIndirectCommandBuffer> _commands;
}

@property(readonly) ob_rows rows;
@property(readonly) id<MTLBuffer> structs;                  // nil: those that the dispatches bind
@property(readonly) id<MTLIndirectCommandBuffer> commands;  // nil: dispatches are to be encoded

@end

typedef struct {
    NSUInteger used;     // when, counted in uses
    OBPreparedRun *run;  // NULL: nothing is kept here
} OBKeptRun;

@interface OBPreparedRuns : NSObject {
    OBDevice *_device;
    OBStructArguments *_structs;
    const OBDispatch *_dispatches;
    NSUInteger _count;
    ob_rows _most;
    NSString *_label;
    BOOL _recorded;
    NSLock *_lock;
    NSUInteger _uses;
    OBPreparedRun *_all;
    OBKeptRun _kept[OB_KEPT_RUNS];
}

// Autoreleased. The dispatches, which are complete, must outlive it and everything that it prepares.
+ (OBPreparedRuns *)runsWithDevice:(OBDevice *)device
                           structs:(OBStructArguments *)structs
                        dispatches:(const OBDispatch *)dispatches
                             count:(NSUInteger)count
                             label:(NSString *)label;

// What a run executes. Autoreleased. nil and an error when there is no memory for it.
- (OBPreparedRun *)runForRows:(ob_rows)rows error:(NSError **)error;

@end
