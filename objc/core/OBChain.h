// An immutable list of dispatches with their bindings, executed by one command buffer per run, or by several in a row
// where the system would end one that takes so long.
//
// Barriers are decided once, when the chain is made, from what each kernel reads and writes. A
// chain retains its kernels and buffers. Runs of one chain may be in flight together (they execute
// in commit order) and may be committed from several threads.
#import "OBDispatch.h"

@class OBDevice, OBPieces, OBPreparedRuns, OBRun, OBStructArguments;

@interface OBChain : NSObject {
    OBDevice *_device;
    NSString *_label;
    NSUInteger _count;
    OBDispatch *_dispatches;
    OBStructArguments *_structs;
    OBPreparedRuns *_prepared;
    OBPieces *_pieces;
    NSMutableArray *_retained;
    NSMutableArray *_read, *_written;  // buffers that dispatches reach by address; nil: none
    NSMutableArray *_labels;
    NSUInteger _runs;  // committed so far, up to two
    NSArray *_held;    // buffers that are kept within the device's reach
}

// Autoreleased. nil and an error naming the dispatch when a binding is missing, misaligned, out of its
// buffer, or of a slot that the kernel lacks, or when a grid or threadgroup is not possible.
+ (OBChain *)chainWithDevice:(OBDevice *)device
                  dispatches:(const ob_dispatch *)dispatches
                       count:(NSUInteger)count
                       label:(NSString *)label
                       error:(NSError **)error;

@property(readonly) NSUInteger count;
@property(readonly) NSString *label;
@property(readonly) OBDevice *device;
@property(readonly) OBPieces *pieces;

- (NSString *)labelOfDispatch:(NSUInteger)index;

// The dispatch that `index` waits for at the barrier before it, or -1 without a barrier.
- (NSInteger)conflictOfDispatch:(NSUInteger)index;

// Encodes a run and commits it. `rows` lowers the height of dispatches that go by rows,
// and is what kernels find in their rows_member.
// nil and an error when it cannot be encoded.
- (OBRun *)commitRows:(ob_rows)rows error:(NSError **)error;

// Runs every dispatch in a command buffer of its own and stores each one's start and end in
// seconds of the device's clock: for traces, slower and without overlap. NO and an error when one
// failed.
- (BOOL)traceRows:(ob_rows)rows starts:(double *)starts ends:(double *)ends error:(NSError **)error;

@end
