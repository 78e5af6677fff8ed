// Buffers that stay within the device's reach from run to run: MTLResidencySet, which macOS 15 has. Without one, a system
// brings them there for each command buffer, and may take their memory away in between.
//
// Safe from any thread.
#import "OBMetal.h"

// MTLResidencySet, as far as it is used here. It is declared under a name of its own because older SDKs lack it.
@protocol OBResidencySet <NSObject>
- (uint64_t)allocatedSize;
- (void)requestResidency;
- (void)endResidency;
- (void)addAllocation:(id)allocation;
- (void)removeAllocation:(id)allocation;
- (void)removeAllAllocations;
- (void)commit;
@end

@interface OBResidency : NSObject {
    id<MTLDevice> _device;
    id<MTLCommandQueue> _queue;
    id<OBResidencySet> _set;
    NSMutableDictionary *_holders;  // by address: how many hold each buffer that is in the set
    uint64_t _bytes;                // of these buffers
    NSLock *_lock;
}

// Autoreleased; nil where the device has no residency sets, or makes none.
+ (OBResidency *)residencyWithDevice:(id<MTLDevice>)device queue:(id<MTLCommandQueue>)queue;

// Holds each of the buffers, as long as all together fit the working set of the device: it returns those that do.
- (NSArray *)hold:(NSArray *)buffers;

// Lets go of what hold: returned, once.
- (void)letGo:(NSArray *)buffers;

// Bytes that are held.
@property(readonly) uint64_t bytes;

@end
