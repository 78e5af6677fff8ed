#import "OBMBlitCommandEncoder.h"

#import "OBMBuffer.h"

@implementation OBMBlitCommandEncoder

- (void)add:(obm_blit)blit {
    obm_blit *kept = obm_arena_take(&_recording->arena, sizeof *kept);
    obm_phase *phase = kept != NULL ? obm_recording_add_phase(_recording, OBM_PHASE_BLIT) : NULL;
    if (phase == NULL) {
        [self failForMemory];
        return;
    }
    *kept = blit;
    phase->blit = kept;
}

- (void)copyFromBuffer:(id<MTLBuffer>)sourceBuffer
          sourceOffset:(NSUInteger)sourceOffset
              toBuffer:(id<MTLBuffer>)destinationBuffer
     destinationOffset:(NSUInteger)destinationOffset
                  size:(NSUInteger)size {
    NSString *method = @"copyFromBuffer";
    [self requireOpenFor:method];
    [self requireBuffer:sourceBuffer offset:sourceOffset size:size for:method];
    [self requireBuffer:destinationBuffer offset:destinationOffset size:size for:method];
    if (size == 0) [self misuseIn:method format:@"the size must be at least 1"];
    NSUInteger distance =
        sourceOffset > destinationOffset ? sourceOffset - destinationOffset : destinationOffset - sourceOffset;
    if (sourceBuffer == destinationBuffer && distance < size) {
        [self misuseIn:method
                format:@"%lu bytes at offsets %lu and %lu of buffer%@ overlap; copy through another buffer",
                       (unsigned long)size, (unsigned long)sourceOffset, (unsigned long)destinationOffset,
                       [(OBMBuffer *)sourceBuffer labelSuffix]];
    }
    if (_retains) {
        [_commandBuffer keep:sourceBuffer];
        [_commandBuffer keep:destinationBuffer];
    }
    [self add:(obm_blit){.to = &((OBMBuffer *)destinationBuffer)->_memory,
                         .to_offset = destinationOffset,
                         .from = &((OBMBuffer *)sourceBuffer)->_memory,
                         .from_offset = sourceOffset,
                         .size = size}];
}

- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
    [self requireOpenFor:@"fillBuffer"];
    [self requireBuffer:buffer offset:range.location size:range.length for:@"fillBuffer"];
    if (range.length == 0) [self misuseIn:@"fillBuffer" format:@"the range must have at least 1 byte"];
    if (_retains) [_commandBuffer keep:buffer];
    [self add:(obm_blit){.to = &((OBMBuffer *)buffer)->_memory,
                         .to_offset = range.location,
                         .size = range.length,
                         .value = value}];
}

- (void)synchronizeResource:(id<MTLResource>)resource {
    [self requireOpenFor:@"synchronizeResource"];
    [self requireBuffer:resource offset:0 size:0 for:@"synchronizeResource"];
    if ([resource storageMode] != MTLStorageModeManaged) {
        [self misuseIn:@"synchronizeResource"
                format:@"buffer%@ is not in MTLStorageModeManaged; only such buffers need the call",
                       [(OBMBuffer *)resource labelSuffix]];
    }
}

- (void)updateFence:(id<MTLFence>)fence {
    [self requireOpenFor:@"updateFence"];
    if (fence == nil) [self misuseIn:@"updateFence" format:@"the fence is nil"];
}

- (void)waitForFence:(id<MTLFence>)fence {
    [self requireOpenFor:@"waitForFence"];
    if (fence == nil) [self misuseIn:@"waitForFence" format:@"the fence is nil"];
}

@end
