#import "OBMResidencySet.h"

#import "OBMCommandQueue.h"
#import "OBMDevice.h"
#import "OBMError.h"
#import "OBMResource.h"

@implementation OBMResidencySet

- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLResidencySetDescriptor *)descriptor {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _allocations = [[NSMutableArray alloc] initWithCapacity:[descriptor initialCapacity]];
    [self setLabel:[descriptor label]];
    if (_allocations != nil) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    [_allocations release];
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (uint64_t)allocatedSize {
    @synchronized(self) {
        return _allocatedSize;
    }
}

- (void)requestResidency {
}
- (void)endResidency {
}

- (NSUInteger)placeOf:(id)allocation {
    for (NSUInteger i = 0; i < [_allocations count]; i++) {
        if ([_allocations objectAtIndex:i] == allocation) return i;
    }
    return NSNotFound;
}

- (void)addAllocation:(id<MTLAllocation>)allocation {
    OBMResource *resource = (OBMResource *)allocation;
    if (![resource isKindOfClass:[OBMResource class]] || [resource device] != _device) {
        OBMRaise(@"addAllocation: residency set%@ takes resources of its own device alone", [self labelSuffix]);
    }
    @synchronized(self) {
        if ([self placeOf:allocation] == NSNotFound) [_allocations addObject:allocation];
    }
}

- (void)addAllocations:(const id<MTLAllocation>[])allocations count:(NSUInteger)count {
    for (NSUInteger i = 0; i < count; i++) [self addAllocation:allocations[i]];
}

- (void)removeAllocation:(id<MTLAllocation>)allocation {
    @synchronized(self) {
        NSUInteger place = [self placeOf:allocation];
        if (place != NSNotFound) [_allocations removeObjectAtIndex:place];
    }
}

- (void)removeAllocations:(const id<MTLAllocation>[])allocations count:(NSUInteger)count {
    for (NSUInteger i = 0; i < count; i++) [self removeAllocation:allocations[i]];
}

- (void)removeAllAllocations {
    @synchronized(self) {
        [_allocations removeAllObjects];
    }
}

- (BOOL)containsAllocation:(id<MTLAllocation>)anAllocation {
    @synchronized(self) {
        return [self placeOf:anAllocation] != NSNotFound;
    }
}

- (NSArray *)allAllocations {
    @synchronized(self) {
        return [NSArray arrayWithArray:_allocations];
    }
}

- (NSUInteger)allocationCount {
    @synchronized(self) {
        return [_allocations count];
    }
}

- (void)commit {
    @synchronized(self) {
        _allocatedSize = 0;
        for (id<MTLAllocation> allocation in _allocations) _allocatedSize += [allocation allocatedSize];
    }
}

@end

@implementation OBMDevice (ResidencySets)

- (id<MTLResidencySet>)newResidencySetWithDescriptor:(MTLResidencySetDescriptor *)descriptor error:(NSError **)error {
    (void)error;
    if (descriptor == nil) OBMRaise(@"newResidencySetWithDescriptor: the descriptor is nil");
    return [[OBMResidencySet alloc] initWithDevice:self descriptor:descriptor];
}

@end

@implementation OBMCommandQueue (ResidencySets)

- (void)addResidencySet:(id<MTLResidencySet>)residencySet {
    if (residencySet == nil || [residencySet device] != (id<MTLDevice>)_device)
        OBMRaise(@"addResidencySet: queue%@ takes residency sets of its own device alone", [self labelSuffix]);
    @synchronized(self) {
        if (_residencySets == nil) _residencySets = [[NSMutableArray alloc] init];
        if (![_residencySets containsObject:residencySet]) [_residencySets addObject:residencySet];
    }
}

- (void)removeResidencySet:(id<MTLResidencySet>)residencySet {
    @synchronized(self) {
        [_residencySets removeObjectIdenticalTo:residencySet];
    }
}

@end
