// Moves bytes between the host's memory and buffers. Where the host sees the buffer it copies; where it does not, the
// device does, in command buffers of its queue. So transfers and runs execute in the order of their commits.
//
// Safe from any thread. Every method gives NO and an error when a range is out of its buffer, or memory is short.
#import "OBMetal.h"
#import "onebuf.h"

@interface OBTransfers : NSObject {
    id<MTLDevice> _device;
    id<MTLCommandQueue> _queue;
    NSLock *_lock;
    NSMutableArray *_stages;  // that no thread is filling
    uint64_t _committed;
}

// Autoreleased.
+ (OBTransfers *)transfersWithDevice:(id<MTLDevice>)device queue:(id<MTLCommandQueue>)queue;

// Command buffers that it committed so far.
- (uint64_t)committedCommandBuffers;

// Writes all transfers in one command buffer. Does not wait: the bytes have been taken when this returns.
- (BOOL)write:(const ob_transfer *)transfers count:(NSUInteger)count error:(NSError **)error;

// Reads all transfers in one command buffer, and waits for it.
- (BOOL)read:(const ob_transfer *)transfers count:(NSUInteger)count error:(NSError **)error;

// Writes transfers whose bytes are parts of one memory map, which the device reads where they are, and waits.
- (BOOL)upload:(const ob_transfer *)transfers count:(NSUInteger)count error:(NSError **)error;

@end
