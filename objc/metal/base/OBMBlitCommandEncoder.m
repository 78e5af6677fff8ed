#import "OBMBlitCommandEncoder.h"

#import <string.h>

#import "OBMBuffer.h"

enum { PIECE = 256 * 1024 };

typedef struct {
    cpu_dispatch dispatch;
    void *buffers[3];  // what launch.buffers points to: destination, source, this
    size_t size;
    uint8_t value;
} blit;

static size_t pieceLength(const blit *b, size_t start, uint32_t count) {
    size_t length = (size_t)count * PIECE;
    return start + length > b->size ? b->size - start : length;
}

static void copyPieces(const metallib_launch *launch, uint32_t first, uint32_t count) {
    const blit *b = launch->buffers[2];
    size_t start = (size_t)first * PIECE;
    memcpy((char *)launch->buffers[0] + start, (const char *)launch->buffers[1] + start,
           pieceLength(b, start, count));
}

static void fillPieces(const metallib_launch *launch, uint32_t first, uint32_t count) {
    const blit *b = launch->buffers[2];
    size_t start = (size_t)first * PIECE;
    memset((char *)launch->buffers[0] + start, b->value, pieceLength(b, start, count));
}

@implementation OBMBlitCommandEncoder

- (void)addBlit:(metallib_entry)entry
             to:(char *)destination
           from:(char *)source
           size:(size_t)size
          value:(uint8_t)value {
    cpu_phase *phase = cpu_job_add_phase(_job, CPU_PHASE_DISPATCH);
    blit *b = obm_arena_take(&_job->arena, sizeof *b);
    if (phase == NULL || b == NULL) {
        [self failForMemory];
        return;
    }
    *b = (blit){.buffers = {destination, source, b}, .size = size, .value = value};
    b->dispatch.entry = entry;
    b->dispatch.native = NULL;
    b->dispatch.launch.buffers = b->buffers;
    b->dispatch.total = (uint32_t)((size + PIECE - 1) / PIECE);
    cpu_phase_append(phase, &b->dispatch);
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
    NSUInteger distance = sourceOffset > destinationOffset ? sourceOffset - destinationOffset
                                                           : destinationOffset - sourceOffset;
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
    [self addBlit:copyPieces
               to:((OBMBuffer *)destinationBuffer)->_bytes + destinationOffset
             from:((OBMBuffer *)sourceBuffer)->_bytes + sourceOffset
             size:size
            value:0];
}

- (void)fillBuffer:(id<MTLBuffer>)buffer range:(NSRange)range value:(uint8_t)value {
    [self requireOpenFor:@"fillBuffer"];
    [self requireBuffer:buffer offset:range.location size:range.length for:@"fillBuffer"];
    if (range.length == 0) [self misuseIn:@"fillBuffer" format:@"the range must have at least 1 byte"];
    if (_retains) [_commandBuffer keep:buffer];
    [self addBlit:fillPieces
               to:((OBMBuffer *)buffer)->_bytes + range.location
             from:NULL
             size:range.length
            value:value];
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
