// A range of bytes that kernels read and write.
#import "MTLResource.h"

@protocol MTLBuffer <MTLResource>

@property(readonly) NSUInteger length;  // bytes
@property(readonly) uint64_t gpuAddress;

// The bytes, valid as long as the buffer; NULL in MTLStorageModePrivate.
- (void *)contents;

// Tells the device what the host wrote, in MTLStorageModeManaged only. Misuse in any other mode.
- (void)didModifyRange:(NSRange)range;

// Kept for source compatibility: markers are shown by a capture tool, and there is none here.
- (void)addDebugMarker:(NSString *)marker range:(NSRange)range;
- (void)removeAllDebugMarkers;

@end
