#import "OBMBuffer.h"

#import "OBMDevice.h"
#import "OBMError.h"

@implementation OBMBuffer

- (id)initWithDevice:(OBMDevice *)device memory:(obm_memory)memory options:(MTLResourceOptions)options {
    self = [super initWithDevice:device options:options];
    if (self == nil) return nil;
    _memory = memory;
    [_device addAllocatedBytes:(int64_t)_memory.length];
    return self;
}

- (id)initWithDevice:(OBMDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    (void)device;
    (void)length;
    (void)options;
    return [self mustBeOfSubclass:_cmd];
}

- (id)initWithDevice:(OBMDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    (void)device;
    (void)memory;
    (void)length;
    (void)options;
    return [self mustBeOfSubclass:_cmd];
}

- (void)dealloc {
    [_device addAllocatedBytes:-(int64_t)_memory.length];
    [super dealloc];
}

- (NSUInteger)length {
    return _memory.length;
}
- (NSUInteger)allocatedSize {
    return _memory.length;
}
- (uint64_t)gpuAddress {
    return (uint64_t)(uintptr_t)_memory.address;
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
