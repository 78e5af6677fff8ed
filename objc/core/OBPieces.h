// Where a run of a chain is cut into command buffers, for a system that ends those which take too long.
//
// How long a dispatch takes is first estimated from what it reads, and then known from the runs before. Safe from any
// thread.
#import "OBDispatch.h"

@class OBDevice;

@interface OBPieces : NSObject {
    const OBDispatch *_dispatches;
    NSUInteger _count;
    double _longest;   // seconds that a piece may be thought to take; 0: it may take any time
    double *_seconds;  // of one threadgroup of each dispatch; 0: none was measured
    NSLock *_lock;
}

// Autoreleased; nil when there is no memory. The dispatches must outlive it.
+ (OBPieces *)piecesWithDevice:(OBDevice *)device dispatches:(const OBDispatch *)dispatches count:(NSUInteger)count;

// How many dispatches from `first` on go into one command buffer of a run of these rows: at least one.
- (NSUInteger)lengthFrom:(NSUInteger)first rows:(ob_rows)rows;

// A piece has taken so many seconds.
- (void)noteSeconds:(double)seconds ofRange:(NSRange)range rows:(ob_rows)rows;

// Whether runs are cut and measured at all.
@property(readonly) BOOL watched;

@end
