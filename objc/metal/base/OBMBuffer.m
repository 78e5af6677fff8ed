#define _GNU_SOURCE
#import "OBMBuffer.h"

#import <stdlib.h>
#import <string.h>
#import <sys/mman.h>
#import <unistd.h>

#import "metal/cpu/CPUDevice.h"
#import "OBMError.h"

enum {
    ALIGNMENT = 256,        // at least any shader type's
    MAP_FROM = 256 * 1024,  // larger buffers get pages of their own, which start as zero
    HUGE_PAGES_FROM = 4 << 20,
};

@implementation OBMBuffer

- (void)setDevice:(CPUDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    _device = [device retain];
    _length = length;
    _options = options;
    [_device addAllocatedBytes:(int64_t)_length];
}

- (id)initWithDevice:(CPUDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    self = [super init];
    if (self == nil) return nil;
    _owned = YES;
    if (length >= MAP_FROM) {
        NSUInteger page = (NSUInteger)sysconf(_SC_PAGESIZE);
        _mapped = (length + page - 1) / page * page;
        _bytes = mmap(NULL, _mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (_bytes == MAP_FAILED) _bytes = NULL;
        else if (length >= HUGE_PAGES_FROM) madvise(_bytes, _mapped, MADV_HUGEPAGE);
    } else if (posix_memalign((void **)&_bytes, ALIGNMENT, length) == 0) {
        memset(_bytes, 0, length);
    } else {
        _bytes = NULL;
    }
    if (_bytes == NULL) {
        [self release];
        return nil;
    }
    [self setDevice:device length:length options:options];
    return self;
}

- (id)initWithDevice:(CPUDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    self = [super init];
    if (self == nil) return nil;
    _bytes = memory;
    [self setDevice:device length:length options:options];
    return self;
}

- (void)dealloc {
    if (_owned && _mapped > 0 && _bytes != NULL) munmap(_bytes, _mapped);
    if (_owned && _mapped == 0) free(_bytes);
    [_device addAllocatedBytes:-(int64_t)_length];
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device { return _device; }
- (NSUInteger)length { return _length; }
- (NSUInteger)allocatedSize { return _length; }
- (NSUInteger)heapOffset { return 0; }
- (BOOL)isAliasable { return NO; }
- (uint64_t)gpuAddress { return (uint64_t)(uintptr_t)_bytes; }
- (MTLResourceOptions)resourceOptions { return _options; }
- (MTLPurgeableState)setPurgeableState:(MTLPurgeableState)state {
    (void)state;
    return MTLPurgeableStateNonVolatile;
}

- (MTLStorageMode)storageMode { return (_options & MTLResourceStorageModeMask) >> MTLResourceStorageModeShift; }

- (MTLCPUCacheMode)cpuCacheMode {
    return (_options & MTLResourceCPUCacheModeMask) >> MTLResourceCPUCacheModeShift;
}

- (MTLHazardTrackingMode)hazardTrackingMode {
    MTLHazardTrackingMode mode = (_options & MTLResourceHazardTrackingModeMask) >>
                                 MTLResourceHazardTrackingModeShift;
    return mode == MTLHazardTrackingModeDefault ? MTLHazardTrackingModeTracked : mode;
}

- (void *)contents { return [self storageMode] == MTLStorageModePrivate ? NULL : _bytes; }

- (void)didModifyRange:(NSRange)range {
    if ([self storageMode] != MTLStorageModeManaged) {
        OBMRaise(@"didModifyRange: buffer%@ is not in MTLStorageModeManaged; only such buffers need the call",
                 [self labelSuffix]);
    }
    if (range.location > _length || range.length > _length - range.location) {
        OBMRaise(@"didModifyRange: bytes %lu to %lu are beyond the length %lu of buffer%@",
                 (unsigned long)range.location, (unsigned long)(range.location + range.length),
                 (unsigned long)_length, [self labelSuffix]);
    }
}

- (void)addDebugMarker:(NSString *)marker range:(NSRange)range {
    (void)marker;
    (void)range;
}

- (void)removeAllDebugMarkers {
}

@end
