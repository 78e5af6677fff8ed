#import "OBMBuffer.h"

#import "OBMDevice.h"
#import "OBMError.h"

@implementation OBMBuffer

- (id)initWithDevice:(OBMDevice *)device memory:(obm_memory)memory options:(MTLResourceOptions)options {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _memory = memory;
    _options = options;
    [_device addAllocatedBytes:(int64_t)_memory.length];
    return self;
}

- (id)initWithDevice:(OBMDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    (void)device;
    (void)length;
    (void)options;
    return [self subclassResponsibility:_cmd];
}

- (id)initWithDevice:(OBMDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    (void)device;
    (void)memory;
    (void)length;
    (void)options;
    return [self subclassResponsibility:_cmd];
}

- (void)dealloc {
    [_device addAllocatedBytes:-(int64_t)_memory.length];
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (NSUInteger)length {
    return _memory.length;
}
- (NSUInteger)allocatedSize {
    return _memory.length;
}
- (NSUInteger)heapOffset {
    return 0;
}
- (BOOL)isAliasable {
    return NO;
}
- (uint64_t)gpuAddress {
    return (uint64_t)(uintptr_t)_memory.address;
}
- (MTLResourceOptions)resourceOptions {
    return _options;
}
- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
    (void)state;
    return MTLPurgeableStateNonVolatile;
}

- (MTLStorageMode)storageMode {
    return (_options & MTLResourceStorageModeMask) >> MTLResourceStorageModeShift;
}

- (MTLCPUCacheMode)cpuCacheMode {
    return (_options & MTLResourceCPUCacheModeMask) >> MTLResourceCPUCacheModeShift;
}

- (MTLHazardTrackingMode)hazardTrackingMode {
    MTLHazardTrackingMode mode = (_options & MTLResourceHazardTrackingModeMask) >> MTLResourceHazardTrackingModeShift;
    return mode == MTLHazardTrackingModeDefault ? MTLHazardTrackingModeTracked : mode;
}

- (void *)contents {
    return [self storageMode] == MTLStorageModePrivate ? NULL : _memory.bytes;
}

- (void)didModifyRange:(NSRange)range {
    if ([self storageMode] != MTLStorageModeManaged) {
        OBMRaise(@"didModifyRange: buffer%@ is not in MTLStorageModeManaged; only such buffers need the call",
                 [self labelSuffix]);
    }
    if (range.location > _memory.length || range.length > _memory.length - range.location) {
        OBMRaise(@"didModifyRange: bytes %lu to %lu are beyond the length %lu of buffer%@",
                 (unsigned long)range.location, (unsigned long)(range.location + range.length),
                 (unsigned long)_memory.length, [self labelSuffix]);
    }
}

- (void)addDebugMarker:(NSString *)marker range:(NSRange)range {
    (void)marker;
    (void)range;
}

- (void)removeAllDebugMarkers {
}

@end
