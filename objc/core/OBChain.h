// An immutable list of dispatches with their bindings, encoded into one command buffer a run.
//
// Barriers are decided once, when the chain is made, from what each kernel reads and writes. A
// chain retains its kernels and buffers. Runs of one chain may be in flight together (they execute
// in commit order) and may be committed from several threads.
#import "OBKernel.h"

@class OBStructArguments, OBDevice, OBRun;

// A buffer argument. `length` bytes from `offset` are what the dispatch touches; hazards are found
// on that range.
typedef struct {
    id<MTLBuffer> buffer;
    NSUInteger offset, length;
    NSUInteger slot;  // n of [[buffer(n)]]
} OBBinding;

// One dispatch as the caller states it; everything is copied or retained.
typedef struct {
    OBKernel *kernel;
    NSString *label;
    const OBBinding *bindings;
    NSUInteger bindingCount;
    const void *bytes;         // contents of the struct argument, or NULL
    NSUInteger byteCount;
    NSUInteger bytesSlot;
    NSString *rowsMember;      // the uint in it that holds a run's number of rows; nil: none does
    MTLSize threadgroups;      // height counts row tiles when rowsPerThreadgroup > 0
    MTLSize grid;              // threads in all, which then count instead of threadgroups; width 0: they do
    MTLSize threads;           // of a threadgroup; width 0: as many as the pipeline and the limit allow
    NSUInteger threadgroupMemory[OB_MAX_BINDINGS];  // bytes of [[threadgroup(n)]], multiples of 16
    NSUInteger rowsPerThreadgroup;
    NSUInteger threadLimit;    // largest threadgroup wanted; 0: as large as the pipeline allows
} OBDispatch;

struct OBEncoded;

@interface OBChain : NSObject {
    OBDevice *_device;
    NSString *_label;
    NSUInteger _count;
    struct OBEncoded *_encoded;
    OBStructArguments *_constants;
    NSMutableArray *_retained;
    NSMutableArray *_labels;
}

// nil and an error naming the dispatch when a binding is missing, misaligned, out of its buffer, or
// of a slot that the kernel lacks, or when a grid or threadgroup is not possible.
+ (OBChain *)chainWithDevice:(OBDevice *)device
                  dispatches:(const OBDispatch *)dispatches
                       count:(NSUInteger)count
                       label:(NSString *)label
                       error:(NSError **)error;

@property(readonly) NSUInteger count;
@property(readonly) NSString *label;
@property(readonly) OBDevice *device;

- (NSString *)labelOfDispatch:(NSUInteger)index;

// The dispatch that `index` waits for at the barrier before it, or -1 without a barrier.
- (NSInteger)conflictOfDispatch:(NSUInteger)index;

// Encodes one command buffer and commits it. `rows` lowers the height of dispatches that go by rows,
// and is what kernels find in their rowsMember; 0, or more than that, runs what each was made with.
// nil and an error when it cannot be encoded.
- (OBRun *)commitRows:(NSUInteger)rows error:(NSError **)error;

// Runs every dispatch in a command buffer of its own and stores each one's start and end in
// seconds of the device's clock: for traces, slower and without overlap. NO and an error when one
// failed.
- (BOOL)traceRows:(NSUInteger)rows starts:(double *)starts ends:(double *)ends error:(NSError **)error;

@end
