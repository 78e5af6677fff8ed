#import "OBResidency.h"

// The methods that devices and queues have from macOS 15 on; see OBResidencySet.
@protocol OBResidencyDevice
- (id<OBResidencySet>)newResidencySetWithDescriptor:(id)descriptor error:(NSError **)error;
@end
@protocol OBResidencyQueue
- (void)addResidencySet:(id)residencySet;
- (void)removeResidencySet:(id)residencySet;
@end

@implementation OBResidency

static id<OBResidencySet> newSet(id<MTLDevice> device) {
    Class kind = NSClassFromString(@"MTLResidencySetDescriptor");
    if (kind == Nil || ![device respondsToSelector:@selector(newResidencySetWithDescriptor:error:)]) return nil;
    id descriptor = [[kind alloc] init];
    id<OBResidencySet> set = [(id<OBResidencyDevice>)device newResidencySetWithDescriptor:descriptor error:NULL];
    [descriptor release];
    return set;
}

+ (OBResidency *)residencyWithDevice:(id<MTLDevice>)device queue:(id<MTLCommandQueue>)queue {
    id<OBResidencySet> set = newSet(device);
    if (set == nil) return nil;
    OBResidency *residency = [[[OBResidency alloc] init] autorelease];
    if (residency == nil) {
        [set release];
        return nil;
    }
    residency->_set = set;
    residency->_device = [device retain];
    residency->_queue = [queue retain];
    residency->_holders = [[NSMutableDictionary alloc] init];
    residency->_lock = [[NSLock alloc] init];
    if (residency->_holders == nil || residency->_lock == nil) return nil;
    [(id<OBResidencyQueue>)queue addResidencySet:set];
    return residency;
}

- (void)dealloc {
    [(id<OBResidencyQueue>)_queue removeResidencySet:_set];
    [_set endResidency];
    [_set release];
    [_holders release];
    [_lock release];
    [_queue release];
    [_device release];
    [super dealloc];
}

- (uint64_t)bytes {
    [_lock lock];
    uint64_t bytes = _bytes;
    [_lock unlock];
    return bytes;
}

static NSNumber *keyOf(id<MTLBuffer> buffer) { return [NSNumber numberWithUnsignedLong:(unsigned long)buffer]; }

- (BOOL)holdBuffer:(id<MTLBuffer>)buffer {
    NSNumber *key = keyOf(buffer);
    NSUInteger holders = [[_holders objectForKey:key] unsignedLongValue];
    if (holders == 0) {
        uint64_t bytes = [buffer allocatedSize], most = [_device recommendedMaxWorkingSetSize];
        if (bytes > most || _bytes > most - bytes) return NO;
    }
    if (holders == 0) [_set addAllocation:buffer];
    [_holders setObject:[NSNumber numberWithUnsignedLong:holders + 1] forKey:key];
    if (holders == 0) _bytes += [buffer allocatedSize];
    return YES;
}

- (void)letGoOfBuffer:(id<MTLBuffer>)buffer {
    NSNumber *key = keyOf(buffer);
    NSUInteger holders = [[_holders objectForKey:key] unsignedLongValue];
    if (holders > 1) {
        [_holders setObject:[NSNumber numberWithUnsignedLong:holders - 1] forKey:key];
        return;
    }
    [_holders removeObjectForKey:key];
    _bytes -= [buffer allocatedSize];
    [_set removeAllocation:buffer];
}

- (NSArray *)hold:(NSArray *)buffers {
    NSMutableArray *held = [NSMutableArray arrayWithCapacity:[buffers count]];
    [_lock lock];
    @try {
        for (id<MTLBuffer> buffer in buffers) {
            if ([self holdBuffer:buffer]) [held addObject:buffer];
        }
        [_set commit];
        [_set requestResidency];         // now, and not with the next command buffer
    } @catch (NSException *exception) {  // no memory is left
        for (id<MTLBuffer> buffer in held) [self letGoOfBuffer:buffer];
        @throw;
    } @finally {
        [_lock unlock];
    }
    return held;
}

- (void)letGo:(NSArray *)buffers {
    [_lock lock];
    @try {
        for (id<MTLBuffer> buffer in buffers) [self letGoOfBuffer:buffer];
        [_set commit];
    } @finally {
        [_lock unlock];
    }
}

@end
