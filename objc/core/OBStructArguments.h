// The struct arguments of a chain's dispatches: one buffer for each number of rows that is run.
//
// Safe from any thread. The buffers of the numbers that ran last are kept and never change, so runs
// of different numbers may be in flight together, each with a buffer of its own to retain.
#import "OBDispatch.h"

@class OBDevice;

enum { OB_KEPT_ARGUMENTS = 8 };  // buffers, besides that of all rows

typedef struct {
    NSUInteger rows;  // 0: nothing is kept here
    NSUInteger used;  // when, counted in uses
    id<MTLBuffer> buffer;
} OBKeptArguments;

@interface OBStructArguments : NSObject {
    OBDevice *_device;
    id<MTLBuffer> _all;
    char *_bytes;  // what it has; its own contents where the host sees them
    NSUInteger _length;
    NSUInteger *_offsets;
    NSUInteger *_members;
    NSUInteger _memberCount;
    NSUInteger _rows;
    NSLock *_lock;
    NSUInteger _uses;
    OBKeptArguments _kept[OB_KEPT_ARGUMENTS];
}

// Autoreleased. nil and an error when there is no memory, or when the struct of a dispatch lacks its rows_member.
+ (OBStructArguments *)argumentsWithDevice:(OBDevice *)device
                                dispatches:(const ob_dispatch *)dispatches
                                     count:(NSUInteger)count
                                     error:(NSError **)error;

// Where the struct of a dispatch is, in every buffer. Undefined for one without.
- (NSUInteger)offsetOfDispatch:(NSUInteger)index;

// The structs as the dispatches gave them; nil when none has any. Lives as long as the receiver.
@property(readonly) id<MTLBuffer> bufferForAllRows;

// The structs for a run of `rows` rows, 0 for all: where a dispatch has a rows_member it holds `rows`,
// but never more than the dispatch gave. nil and an error when there is no memory for it.
- (id<MTLBuffer>)bufferForRows:(NSUInteger)rows error:(NSError **)error;

@end
