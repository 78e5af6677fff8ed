#import "OBMResource.h"

#import "OBMDevice.h"

@implementation OBMResource

- (id)initWithDevice:(OBMDevice *)device options:(MTLResourceOptions)options {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _options = options;
    return self;
}

- (void)dealloc {
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (NSUInteger)allocatedSize {
    return (NSUInteger)[self mustBeOfSubclass:_cmd];
}
- (NSUInteger)heapOffset {
    return 0;
}
- (BOOL)isAliasable {
    return NO;
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

@end
