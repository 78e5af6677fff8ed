// The struct arguments of a chain's dispatches: one buffer has all of them, as the dispatches gave them or for fewer rows.
//
// Immutable after creation, so safe from any thread.
#import "OBDispatch.h"

@class OBDevice;

@interface OBStructArguments : NSObject {
    OBDevice *_device;
    id<MTLBuffer> _all;
    char *_bytes;  // what it has; its own contents where the host sees them
    NSUInteger _length;
    NSUInteger *_offsets;
    NSUInteger *_members;
    BOOL *_leading;  // which members hold the leading rows
    NSUInteger _memberCount;
    ob_rows _rows;
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

// The most rows that the rows_members hold there; 0 where there is none.
@property(readonly) ob_rows rows;

// Whether some rows_member is lower in a run of these rows.
- (BOOL)dependOnRows:(ob_rows)rows;

// The structs for a run of fewer rows: where a dispatch has a rows_member it holds the rows that the dispatch goes by,
// but never more than the dispatch gave. nil and an error when there is no memory for it. The caller owns the buffer
// (+1).
- (id<MTLBuffer>)newBufferForRows:(ob_rows)rows error:(NSError **)error;

@end
