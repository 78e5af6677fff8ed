// Allocations that stay where the device reaches them, for all command buffers of the queues that have the set. macOS 15
// has it.
#import "MTLDefines.h"

@protocol MTLAllocation;
@protocol MTLDevice;

@interface MTLResidencySetDescriptor : NSObject <NSCopying> {
    NSString *_label;
    NSUInteger _initialCapacity;
}

@property(copy, nonatomic) NSString *label;
@property(nonatomic) NSUInteger initialCapacity;

@end

// Additions and removals take effect with the next commit.
@protocol MTLResidencySet <NSObject>

@property(readonly) id<MTLDevice> device;
@property(readonly) NSString *label;
@property(readonly) uint64_t allocatedSize;  // bytes, at the last commit

- (void)requestResidency;
- (void)endResidency;

- (void)addAllocation:(id<MTLAllocation>)allocation;
- (void)addAllocations:(const id<MTLAllocation>[])allocations count:(NSUInteger)count;
- (void)removeAllocation:(id<MTLAllocation>)allocation;
- (void)removeAllocations:(const id<MTLAllocation>[])allocations count:(NSUInteger)count;
- (void)removeAllAllocations;
- (void)commit;

// These know of what is not committed, too.
- (BOOL)containsAllocation:(id<MTLAllocation>)anAllocation;
@property(readonly, copy) NSArray *allAllocations;
@property(readonly) NSUInteger allocationCount;

@end
