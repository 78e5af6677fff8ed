#import "CheckerComputeCommandEncoder.h"

@implementation CheckerComputeCommandEncoder

- (void)setBufferLengths:(const NSUInteger[])lengths withRange:(NSRange)range {
    [self requireOpenFor:@"setBufferLengths"];
    for (NSUInteger i = 0; i < range.length; i++) {
        NSUInteger index = range.location + i;
        if (index >= METALLIB_MAX_BUFFERS || (lengths[i] > 0 && lengths[i] > _table.buffers[index].available)) {
            [self misuseIn:@"setBufferLengths"
                    format:@"%lu bytes at index %lu are more than are bound there", (unsigned long)lengths[i],
                           (unsigned long)index];
        }
        _table.buffers[index].binding.length = lengths[i] > 0 ? lengths[i] : _table.buffers[index].available;
    }
}

@end
